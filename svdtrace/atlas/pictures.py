"""Pictures of an atlas: what every head writes of what every later one reads, and what heads do to a direction."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure

from svdtrace.atlas.result import Atlas
from svdtrace.pictures.colours import DEST, INK, PAPER, SOFT, SRC
from svdtrace.pictures.style import BLUES, STYLE, save

BOTH_WAYS = LinearSegmentedColormap.from_list("svdtrace both ways", ["#7d3200", SRC, "#f5f3ef", DEST, "#0a3d63"])
READ_WITH = ("query", "key", "value")
NAMED = 4
"""Pairs named in each panel."""
MOST_NUMBERS = 200
OUTLYING = 99.7
"""Percentile at which the scale of what is beyond medians ends."""


def draw_all(atlas: Atlas, folder: Path) -> None:
    """Write every picture as SVG and PNG."""
    with matplotlib.rc_context(STYLE):
        for name, figure in {"composition": composition(atlas), "heads": heads(atlas.tables["heads"])}.items():
            save(figure, folder / f"{name}.svg")
            # Where things stand is found once: that takes as long as drawing.
            figure.set_layout_engine("none")
            save(figure, folder / f"{name}.png")


def composition(atlas: Atlas) -> Figure:
    """Scores of all pairs over chance, and below them what is left once medians are taken out."""
    pairs, shape = atlas.pairs, atlas.manifest["model"]["shape"]
    figure = Figure(figsize=(11.4, 7.15), layout="constrained")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    ratio = np.log2(pairs.score / pairs.null_mean)
    most = max(1.0, float(np.ceil(np.nanmax(ratio, initial=0))))
    least = min(-1.0, float(np.floor(np.nanmin(ratio, initial=0))))
    finite = np.abs(pairs.beyond[~np.isnan(pairs.beyond)])
    limit = max(float(np.percentile(finite, OUTLYING)), 1e-6) if len(finite) else 1.0
    for side, name in enumerate(READ_WITH):
        above, below = axes[:, side]
        above.imshow(ratio[side], BOTH_WAYS, norm=TwoSlopeNorm(0, least, most), origin="lower", interpolation="nearest")
        below.imshow(pairs.beyond[side], BOTH_WAYS, vmin=-limit, vmax=limit, origin="lower", interpolation="nearest")
        above.set_title(f"into the {name}: score over chance")
        below.set_title(f"into the {name}: score beyond medians")
        below.set_xlabel("head that writes, by layer")
        for each, values in ((above, pairs.score[side]), (below, pairs.beyond[side])):
            _layers(each, shape)
            _name(each, values, shape["n_heads"])
    bars = []
    for row, label in zip(axes, ("score over its mean by chance", "score, medians taken out"), strict=True):
        row[0].set_ylabel("head that reads, by layer")
        extend = "both" if bars else "neither"
        bars.append(figure.colorbar(row[0].images[0], ax=row, shrink=0.85, aspect=22, extend=extend, label=label))
        bars[-1].outline.set_visible(False)
    ticks = np.arange(least, most + 1)
    bars[0].set_ticks(ticks.tolist(), labels=[f"{2.0**tick:g}×" for tick in ticks])
    return figure


def _layers(axes: Axes, shape: dict[str, int]) -> None:
    """Lines between layers, and their numbers."""
    n_layers, n_heads = shape["n_layers"], shape["n_heads"]
    edges = np.arange(1, n_layers) * n_heads - 0.5
    for edge in edges:
        axes.axhline(edge, color=PAPER, lw=0.7)
        axes.axvline(edge, color=PAPER, lw=0.7)
    middles = np.arange(n_layers) * n_heads + n_heads / 2 - 0.5
    every = max(1, n_layers // 12)
    names = [str(layer) for layer in range(0, n_layers, every)]
    axes.set_xticks(middles[::every], names, fontsize=7.5)
    axes.set_yticks(middles[::every], names, fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _name(axes: Axes, values: np.ndarray, n_heads: int) -> None:
    """The strongest pairs, every head named once, listed in the empty half below the diagonal."""
    left, lines = np.nan_to_num(values, nan=-np.inf), []
    for _ in range(NAMED):
        reader, writer = (int(each) for each in np.unravel_index(left.argmax(), left.shape))
        if not np.isfinite(left[reader, writer]):
            break
        ends = ["{}.{}".format(*divmod(each, n_heads)) for each in (writer, reader)]
        lines.append(f"{ends[0]} → {ends[1]}  {values[reader, writer]:.3f}")
        left[reader], left[:, writer] = -np.inf, -np.inf
    axes.text(0.97, 0.04, "\n".join(lines), transform=axes.transAxes, ha="right", va="bottom", size=7.5, color=SOFT)


def heads(table: pa.Table) -> Figure:
    """Eigenvalue positivity of every head's two matrices, and over how many directions it writes, layers × heads."""
    layer, head = (table[name].to_numpy() for name in ("layer", "head"))
    shape = int(layer.max()) + 1, int(head.max()) + 1
    panels = (
        ("qk_positivity", "QK: attends to what is alike (+)\nor to its opposite (−)", BOTH_WAYS, -1.0, "{:+.2f}"),
        ("ov_positivity", "OV: copies (+)\nor writes the opposite (−)", BOTH_WAYS, -1.0, "{:+.2f}"),
        ("ov_participation", "OV: over how many directions\nit spreads evenly", BLUES, 0.0, "{:.0f}"),
    )
    figure = Figure(figsize=(1.2 + 3 * (1.0 + 0.31 * shape[1]), 1.5 + 0.3 * shape[0]), layout="constrained")
    for axes, (name, title, shades, least, form) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        grid = np.full(shape, np.nan)
        grid[layer, head] = table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        most = 1.0 if least else max(1.0, float(np.nanmax(grid, initial=0)))
        image = axes.imshow(grid, shades, origin="lower", aspect="auto", vmin=least, vmax=most)
        if grid.size <= MOST_NUMBERS:
            for (row, place), value in np.ndenumerate(grid):
                dark = abs(value) > 0.55 * most
                text = "" if np.isnan(value) else form.format(value).replace("0.", ".").replace("-", "−")
                axes.text(place, row, text, ha="center", va="center", size=6, color=PAPER if dark else INK)
            axes.set(xticks=range(shape[1]), yticks=range(shape[0]))
        axes.set_title(title, size=9)
        axes.set(xlabel="head")
        axes.tick_params(length=0, labelsize=7.5)
        axes.spines[:].set_visible(False)
        scale = figure.colorbar(image, ax=axes, shrink=0.9, aspect=22)
        scale.outline.set_visible(False)
    figure.axes[0].set_ylabel("layer")
    return figure
