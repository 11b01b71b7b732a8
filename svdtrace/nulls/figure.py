"""Are singular vectors a special basis? A picture of |S| beside |S| in random ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from svdtrace.pictures.colours import DEST, INK, SOFT, SRC
from svdtrace.pictures.style import STYLE, nothing, save
from svdtrace.pictures.traced import Traced, model_of


def random_bases(trace: Traced, path: str | Path) -> None:
    """Draw |S| of singular vectors beside that of random orthogonal bases: over firings, and head by head.

    Args:
        trace: with `chance` in its manifest (`svdtrace trace --nulls N`).
        path: ends in `.svg`, `.png` or `.pdf`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_figure(trace.manifest), path)


def _figure(manifest: dict[str, Any]) -> Figure:
    bases = manifest.get("chance", {}).get("bases", {})
    if not bases.get("firings"):
        return nothing("No slices were held against random bases.")
    figure = Figure(figsize=(9.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    d_head = model_of(manifest).get("d_head", len(bases["histogram"]) - 1)
    _draw_sizes(left, bases, d_head)
    _draw_heads(right, bases["heads"])
    return figure


def _draw_sizes(axes: Axes, bases: dict[str, Any], d_head: int) -> None:
    for name, mean, colour, shift in (
        ("histogram", "mean_slice", DEST, -0.2),
        ("random_histogram", "random_mean_slice", SRC, 0.2),
    ):
        counts = np.asarray(bases[name])
        label = f"{'singular vectors' if name == 'histogram' else 'random bases'}, mean {bases[mean]:.2f}"
        hatch = None if name == "histogram" else "////"
        numbers = np.arange(1, len(counts))
        shares = 100 * counts[1:] / counts.sum()
        filled = colour if hatch is None else "none"
        axes.bar(
            numbers + shift, shares, 0.4, label=label, facecolor=filled, edgecolor=colour, hatch=hatch, linewidth=0.7
        )
    axes.set(xlabel=f"|S|, vectors in a slice (of {d_head})", ylabel="% of firings", title="All firings")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.margins(y=0.3)
    axes.legend(frameon=False, loc="upper right")


def _draw_heads(axes: Axes, heads: dict[str, Any]) -> None:
    mine, random = (np.asarray([each[name] for each in heads.values()]) for name in ("mean_slice", "random_mean_slice"))
    top = 1.08 * max(mine.max(), random.max())
    axes.plot([0, top], [0, top], color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(top, top, "equal ", ha="right", va="bottom", size=8, color=SOFT)
    axes.scatter(random, mine, s=16, color=DEST, edgecolor=INK, linewidth=0.4, zorder=3)
    axes.set(
        xlabel="mean |S| in random bases",
        ylabel="mean |S|, singular vectors",
        title="Head by head",
        xlim=(0, top),
        ylim=(0, top),
        aspect="equal",
    )
