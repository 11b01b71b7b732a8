"""The picture of the nulls' power: true edges that survive against the strength of the background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdtrace.pictures.colours import DEST, INK, PALE, SOFT, SRC
from svdtrace.pictures.style import STYLE, save

DRAWS: tuple[dict[str, Any], ...] = (
    {"color": PALE, "marker": "^", "linestyle": (0, (1, 1.5))},
    {"color": "#56b4e9", "marker": "s", "linestyle": (0, (4.5, 2.2))},
    {"color": DEST, "marker": "o"},
)
NULLS: dict[str, dict[str, Any]] = {
    "slices": {"color": "#009e73", "marker": "s", "linestyle": (0, (4.5, 2.2))},
    "bases": {"color": SRC, "marker": "o"},
    "prompts": {"color": "#cc79a7", "marker": "^", "linestyle": (0, (1, 1.5))},
}
CLAIMED = {"vectors": "single vectors", "blocks": "blocks of near-equal σ"}


def power_picture(power: pa.Table, path: str | Path) -> None:
    """Draw, for each claim, the share of true edges that survive by number of nulls, and that beats each null alone.

    Args:
        power: `power.parquet`, or those of several models together: of one strength their mean is drawn.
        path: ends in `.svg` or `.png`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_figure(power.to_pylist()), path)


def _figure(rows: list[dict[str, Any]]) -> Figure:
    claims = list(dict.fromkeys(row["claim"] for row in rows))
    figure = Figure(figsize=(9.2, 6.6), layout="constrained")
    axes = figure.subplots(2, len(claims), squeeze=False, sharey=True, sharex=True)
    most = max(row["nulls"] for row in rows)
    for column, claim in zip(axes.T, claims, strict=True):
        mine = [row for row in rows if row["claim"] == claim]
        for look, nulls in zip(DRAWS, sorted({row["nulls"] for row in mine}), strict=False):
            some = [row for row in mine if row["nulls"] == nulls]
            _curve(column[0], some, [row["surviving"] / row["true"] for row in some], f"{nulls:,} nulls", look)
        last = [row for row in mine if row["nulls"] == most]
        for kind, look in NULLS.items():
            _curve(column[1], last, [row[f"beats_{kind}"] for row in last], kind, look)
        column[0].set_title(f"Claims by {CLAIMED[claim]}")
        column[1].set_xlabel("strength of the background")
    axes[0, 0].set_ylabel("true edges that survive every null\nat a false-discovery rate of 0.05")
    axes[1, 0].set_ylabel(f"true edges with p ≤ 0.05\nagainst one null alone, {most:,} draws")
    for ax in axes.flat:
        ax.set_ylim(-0.04, 1.06)
        ax.axhline(0.05, color=SOFT, linewidth=0.6, zorder=0)
    for line in axes:
        line[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), labelcolor=INK)
    return figure


def _curve(ax: Axes, rows: list[dict[str, Any]], values: list[float | None], label: str, look: dict[str, Any]) -> None:
    strength = np.asarray([row["strength"] or 0 for row in rows], float)
    share = np.asarray([np.nan if each is None else each for each in values], float)
    x = np.unique(strength)
    known = [share[(strength == at) & ~np.isnan(share)] for at in x]
    y = [float(each.mean()) if each.size else np.nan for each in known]
    ax.plot(x, y, label=label, linewidth=1.2, markersize=6, markerfacecolor="none", **look)
