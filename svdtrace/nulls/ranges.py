"""What chance would give of single edges: a picture of what was observed beside the range of each null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from svdtrace.nulls.candidates import Candidates
from svdtrace.pictures.colours import INK, SIDE_COLOURS
from svdtrace.pictures.style import nothing, written
from svdtrace.tracing.rows import SIDES

NULLS = {"slices": "random slices", "bases": "random bases", "prompts": "shuffled prompts"}
MIDDLE = (2.5, 97.5)
"""Of the draws of a null, in percent, that its bar spans."""
OFFSETS = dict(zip(NULLS, (-0.22, 0.0, 0.22), strict=True))
SHADES = dict(zip(NULLS, ("#c9cdd4", "#9aa1ac", "#6c7480"), strict=True))
SIDE_WORDS = {"dest": "query", "src": "key"}


def ranges_figure(
    found: Candidates,
    observed: Mapping[str, np.ndarray],
    null: Mapping[str, np.ndarray],
    p: Mapping[str, np.ndarray],
    places: np.ndarray,
) -> Figure:
    """Draw edges line by line: what was observed, and the middle 95 % of every null; to be drawn under `STYLE`.

    A null that the edge beats at p ≤ 0.05 has a hollow bar, so that what is filled is what explains the edge.

    Args:
        found: the candidates.
        observed, null, p: by kind, as `svdtrace.nulls.chance.Chance` has them.
        places: which candidates, from the top.
    """
    if not len(places):
        return nothing("There are no edges to hold against chance.")
    figure = Figure(figsize=(8.6, 1.5 + 0.36 * len(places)), layout="constrained")
    axes = figure.subplots()
    names, sides = _names(found, places)
    for kind, values in null.items():
        _draw_null(axes, kind, values[:, places], p[kind][places])
    mine = observed["bases"][places]
    for side, colour in SIDE_COLOURS.items():
        at = np.flatnonzero(np.asarray(sides) == side)
        axes.scatter(mine[at], at, s=34, color=colour, edgecolor=INK, linewidth=0.5, zorder=3)
    axes.set_yticks(range(len(places)), names, color=INK)
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean share of what all writers together put into the reader's slice")
    axes.grid(axis="x", color="#e4e1da", linewidth=0.7)
    axes.set_axisbelow(True)
    figure.suptitle(
        "Edges observed (dots) and what chance gives (bars: middle 95 %; hollow where it is beaten, p ≤ 0.05)",
        x=0.01,
        ha="left",
        size=10,
    )
    figure.legend(
        handles=_legend([kind for kind in null if not np.isnan(p[kind][places]).all()]),
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=8,
    )
    return figure


def _names(found: Candidates, places: np.ndarray) -> tuple[list[str], list[str]]:
    """What lines are called, and which side each is of."""
    columns = [column[places] for column in found.columns()]
    sides = [SIDES[side] for side in columns[0]]
    names = [
        f"{found.order.labels[writer]} → {layer}.{head}, {SIDE_WORDS[side]} at {written(found.roles[role])}"
        for side, _, layer, head, role, writer in zip(sides, *columns, strict=True)
    ]
    return names, sides


def _draw_null(axes: Axes, kind: str, values: np.ndarray, p: np.ndarray) -> None:
    """One null's bars; none where it says nothing of an edge.

    Args:
        values: under each draw [null edge].
    """
    low, high = np.percentile(values, MIDDLE, axis=0)
    said = np.flatnonzero(~np.isnan(p))
    beaten = p[said] <= 0.05
    faces = ["none" if each else SHADES[kind] for each in beaten]
    axes.barh(
        said + OFFSETS[kind],
        high[said] - low[said],
        0.17,
        left=low[said],
        color=faces,
        edgecolor=SHADES[kind],
        linewidth=1.0,
    )


def _legend(kinds: Sequence[str]) -> list[Line2D]:
    """Of the sides, and of the nulls that say anything."""
    bars = [
        Line2D([], [], color=SHADES[kind], linewidth=5, label=name) for kind, name in NULLS.items() if kind in kinds
    ]
    return [
        *(
            Line2D(
                [],
                [],
                linestyle="none",
                marker="o",
                color=colour,
                markeredgecolor=INK,
                label=f"{SIDE_WORDS[side]} side",
            )
            for side, colour in SIDE_COLOURS.items()
        ),
        *bars,
    ]
