"""The picture of `compare`: weights against falls, and how many writers must go, by each order."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from svdtrace.comparison.tables import ORDERS, SPELT, mean_removals
from svdtrace.pictures.colours import INK, SIDE_COLOURS, SOFT
from svdtrace.pictures.style import STYLE, nothing, save
from svdtrace.tracing.rows import SIDES

SHOWN = {"exact": "weight, exact (score)", "relative": "weight, relative (probability)"}
ENDS = {"dest": "destination: the query", "src": "source: the keys"}
MOST_POINTS = 6000
"""Of each cloud; of more, so many spread evenly over the table are drawn."""


def comparison_picture(effects: pa.Table, removals: pa.Table, agreement: pa.Table, path: str | Path) -> None:
    """Draw both sides: the fall of the pattern over `exact`'s and `relative`'s weights, and the mean removals.

    Args:
        path: ends in `.svg`, `.png` or `.pdf`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_figure(effects, removals, agreement) if effects.num_rows else nothing("No head fires."), path)


def _figure(effects: pa.Table, removals: pa.Table, agreement: pa.Table) -> Figure:
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    axes = figure.subplots(2, 3, width_ratios=(1, 1, 1.1))
    side, counted = np.asarray(effects["side"].to_pylist()), mean_removals(removals)
    correlation = {
        (row["side"], row["method"]): row["correlation"]
        for row in agreement.to_pylist()
        if row["counterfactual"] == "fall"
    }
    for line, name in zip(axes, SIDES, strict=True):
        mine = effects.filter(pa.array(side == name))
        for ax, (method, label) in zip(line, SHOWN.items(), strict=False):
            found = correlation[name, method]
            ax.set_title("" if found is None else f"r = {found:.2f}")
            _cloud(ax, mine[method].to_numpy(), mine["fall"].to_numpy(), name)
            ax.set_xlabel(label)
        line[0].set_ylabel(f"{ENDS[name]}\nfall of attention without the writer")
        _bars(line[2], counted[name]["writers"], name)
    axes[0, 2].set_title("writers out until the head lets go", loc="right")
    return figure


def _cloud(ax: Axes, weight: np.ndarray, fall: np.ndarray, side: str) -> None:
    some = np.unique(np.linspace(0, len(weight) - 1, min(MOST_POINTS, len(weight))).astype(int))
    for place in (ax.axhline, ax.axvline):
        place(0, color=SOFT, linewidth=0.5, zorder=0)
    ax.scatter(weight[some], fall[some], s=4, color=SIDE_COLOURS[side], alpha=0.35, linewidths=0, rasterized=True)


def _bars(ax: Axes, means: dict[str, float | None], side: str) -> None:
    shown = {order: means[order] for order in ORDERS if means.get(order) is not None}
    heights = np.asarray(list(shown.values()), float)
    place = np.arange(len(shown))[::-1]
    colours = [SOFT if order in ("best", "random") else SIDE_COLOURS[side] for order in shown]
    paler = [(colour, 0.45 if order.endswith("_every") else 1.0) for order, colour in zip(shown, colours, strict=True)]
    ax.barh(place, heights, color=paler, height=0.7)
    ax.set_yticks(place, [SPELT.get(order, order) for order in shown])
    for at, height in zip(place, heights, strict=True):
        ax.text(height, at, f" {height:.2f}", va="center", size=8, color=INK)
    ax.set_xlim(0, 1.18 * max([1.0, *heights]))
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("mean number of writers")
