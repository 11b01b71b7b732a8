"""The picture of `score-truth`: precision and recall of every method against background and coverage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from svdtrace.config import TraceConfig
from svdtrace.pictures.colours import BANDS, DEST, INK, SOFT, SRC
from svdtrace.pictures.style import STYLE, save
from svdtrace.truth.rivals import ATTRIBUTION, COMPOSITION, PATCHING

LOOKS: dict[str, dict[str, Any]] = {
    "exact": {"color": DEST, "marker": "o"},
    "relative": {"color": "#009e73", "marker": "D", "linestyle": (0, (6, 1.5))},
    "paper": {"color": SRC, "marker": "s", "linestyle": (0, (4.5, 2.2))},
    "all": {"color": "#cc79a7", "marker": "v", "linestyle": (0, (3, 1, 1, 1))},
    PATCHING: {"color": INK, "marker": "^", "linestyle": (0, (1, 1.5))},
    ATTRIBUTION: {"color": "#e69f00", "marker": "P", "linestyle": (0, (2, 2))},
    COMPOSITION: {"color": SOFT, "marker": "X", "linestyle": (0, (1, 3))},
}
SHARES = {"precision_most": "precision", "recall_most": "recall"}


def curves_picture(scores: pa.Table, path: str | Path) -> None:
    """Draw precision and recall over the strength of the background, and over the coverage.

    Args:
        scores: `scores.parquet`, the model itself first.
        path: ends in `.svg` or `.png`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_figure(scores), path)


def shown_coverage(coverages: list[float]) -> float:
    """The coverage at which the background grows: the default of a trace, or what is nearest to it."""
    return min(coverages, key=lambda each: abs(each - TraceConfig().coverage))


def _figure(scores: pa.Table) -> Figure:
    rows = scores.to_pylist()
    coverage, strength = shown_coverage([row["coverage"] for row in rows]), rows[0]["strength"]
    of_own = [row for row in rows if row["strength"] == strength]
    columns = [("coverage", of_own, f"Background {strength:g}" if strength is not None else "This model")]
    if len({row["strength"] for row in rows}) > 1:
        at_one = [row for row in rows if row["coverage"] == coverage]
        columns.insert(0, ("strength", at_one, f"Coverage {coverage:g}"))
    figure = Figure(figsize=(1 + 4.2 * len(columns), 6), layout="constrained")
    axes = figure.subplots(len(SHARES), len(columns), squeeze=False, sharey=True, sharex="col")
    for line, (share, name) in zip(axes, SHARES.items(), strict=True):
        line[0].set_ylabel(f"{name} of edges in most prompts")
        for ax, (over, taken, _) in zip(line, columns, strict=True):
            _curves(ax, taken, over, share)
            if over == "strength":
                _silence(ax, taken, said=name == "precision")
    for top, below, (over, _, title) in zip(axes[0], axes[-1], columns, strict=True):
        top.set_title(title)
        below.set_xlabel("strength of the background" if over == "strength" else over)
    methods = dict.fromkeys(row["method"] for row in rows)
    handles = [Line2D([], [], markersize=6, label=name, **_look(name)) for name in methods]
    figure.legend(handles=handles, loc="outside lower center", ncols=2 * len(columns), frameon=False)
    return figure


def _silence(ax: Axes, rows: list[dict[str, Any]], *, said: bool) -> None:
    """Shade the strengths from which on no root fires in most prompts, so that there is nothing to trace."""
    strengths = sorted({row["strength"] for row in rows})
    silent = min((row["strength"] for row in rows if row["reached"] < 0.5), default=None)
    if silent is None:
        return
    before = max((each for each in strengths if each < silent), default=silent)
    start, end = (before + silent) / 2, 1.05 * strengths[-1]
    ax.axvspan(start, end, color=BANDS[0], zorder=-1)
    if said:
        # Where nothing is found there is no precision, and room.
        ax.text((start + end) / 2, 0.5, "roots seldom fire", rotation=90, ha="center", va="center", color=SOFT)


def _curves(ax: Axes, rows: list[dict[str, Any]], over: str, share: str) -> None:
    for place, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row[over])
        x = np.asarray([row[over] for row in mine], float)
        y = np.asarray([np.nan if row[share] is None else row[share] for row in mine], float)
        # Markers that shrink from curve to curve show all that lie on one another.
        size = 9 - 1.1 * place
        ax.plot(x, y, markersize=size, **_look(method))
    ax.set_ylim(-0.04, 1.06)
    for level in (0, 1):
        ax.axhline(level, color=SOFT, linewidth=0.6, zorder=0)


def _look(method: str) -> dict[str, Any]:
    hollow = {"linewidth": 1.2, "markerfacecolor": "none", "markeredgewidth": 1.1}
    return hollow | LOOKS.get(method, {"color": SOFT, "marker": "."})
