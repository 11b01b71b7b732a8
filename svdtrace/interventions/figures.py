"""A picture of interventions: the effect of every set of edges with its interval, beside its controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdtrace.pictures.colours import DEST, INK, SOFT, SRC
from svdtrace.pictures.style import STYLE, nothing, save

MOST = 30
LONGEST = 46
MARKS: dict[str, dict[str, Any]] = {
    "none": {"color": DEST, "marker": "o", "label": "signal"},
    "random": {"color": SRC, "marker": "s", "label": "random vectors, as many", "markerfacecolor": "white"},
    "norm": {"color": SRC, "marker": "s", "label": "random vectors, same norm", "markerfacecolor": "white"},
}


def effects_picture(summary: pa.Table, path: str | Path) -> None:
    """Draw mean changes of the logit difference: a line for every set of edges, a panel for every place and direction.

    Args:
        summary: of interventions.
        path: ends in `.svg`, `.png` or `.pdf`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(effects_figure(summary), path)


def effects_figure(summary: pa.Table) -> Figure:
    """What `effects_picture` writes; to be made and drawn under `STYLE`."""
    rows = [row for row in summary.to_pylist() if row["logit_difference"] is not None]
    if not rows:
        return nothing("No prompt was edited, or none has an answer and a distractor.")
    largest: dict[str, float] = {}
    for row in rows:
        if row["control"] == "none":
            largest[row["edges"]] = max(abs(row["logit_difference"]), largest.get(row["edges"], 0.0))
    names = sorted(largest, key=lambda name: -largest[name])[:MOST]
    panels = list(dict.fromkeys((row["where"], row["direction"]) for row in rows))
    size = (2.6 + 2.6 * len(panels), 1.7 + 0.3 * len(names))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True, sharex=True)[0]
    for panel, (where, direction) in zip(axes, panels, strict=True):
        mine = [row for row in rows if (row["where"], row["direction"]) == (where, direction)]
        _draw(panel, mine, names)
        panel.set_title(f"{where}, {direction}")
    axes[0].set_yticks(range(len(names)), [_short(name) for name in names], color=INK)
    axes[0].set_ylim(len(names) - 0.4, -0.6)
    figure.supxlabel(
        "change of the logit difference, answer − distractor (logits; mean and 95 % interval over prompts)", size=9
    )
    handles, labels = axes[0].get_legend_handles_labels()
    shown = f", the {len(names)} of {len(largest)} sets that change it most" if len(names) < len(largest) else ""
    figure.suptitle(f"Edits of signals between heads{shown}", x=0.01, ha="left", size=10)
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False)
    return figure


def _draw(axes: Axes, rows: list[dict[str, Any]], names: list[str]) -> None:
    axes.axvline(0, color=SOFT, linewidth=0.8)
    for control, style in MARKS.items():
        drawn = [row for row in rows if row["control"] == control and row["edges"] in names]
        if not drawn:
            continue
        beside = 0.0 if len({row["control"] for row in rows}) == 1 else (-0.14 if control == "none" else 0.14)
        effect = [row["logit_difference"] for row in drawn]
        low = [max(0.0, row["logit_difference"] - row["logit_difference_low"]) for row in drawn]
        high = [max(0.0, row["logit_difference_high"] - row["logit_difference"]) for row in drawn]
        at = [names.index(row["edges"]) + beside for row in drawn]
        axes.errorbar(effect, at, xerr=[low, high], linestyle="none", markersize=4, elinewidth=1.2, **style)
    axes.grid(axis="x", color="#e4e1da", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=2)


def _short(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    count = name.count(",") + 1
    return f"{name.split(',')[0]} and {count - 1} more" if count > 1 else f"{name[: LONGEST - 1]}…"
