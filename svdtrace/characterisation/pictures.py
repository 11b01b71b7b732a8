"""Pictures of a characterisation, drawn from its tables alone: of all heads together.

`PICTURES` lists them: a name and a function of the tables; `draw_all` writes each as SVG and PNG.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from svdtrace.characterisation import head_pictures
from svdtrace.characterisation.drawing import COLOURS, DASHES, bar, column, data_sets, heat_map, only, plain
from svdtrace.pictures.colours import PAPER, SIDE_COLOURS, SOFT
from svdtrace.pictures.style import SIDE_SHADES, STYLE, nothing, save

Tables = Mapping[str, pa.Table]


def draw_all(tables: Tables, folder: Path) -> None:
    """Write every picture as SVG and PNG.

    Raises:
        OutputError: a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        for name, make in PICTURES.items():
            figure = make(tables)
            for ending in (".svg", ".png"):
                save(figure, folder / f"{name}{ending}")


def heads(tables: Tables) -> Figure:
    """Firings and mean |S| of every head, data sets side by side."""
    table = tables["heads"]
    names = data_sets(table)
    n_layers, n_heads = (int(column(table, name).max()) + 1 for name in ("layer", "head"))
    width, height = max(2.6, 0.42 * n_heads + 0.9) * len(names) + 0.8, max(2, 0.3 * n_layers + 0.8) * 2
    figure = Figure(figsize=(width, height), layout="constrained")
    axes, image = figure.subplots(2, len(names), squeeze=False), None
    for row, (what, label, form) in enumerate((("firings", "firings", "{:.0f}"), ("mean_size", "mean |S|", "{:.1f}"))):
        grids = [column(only(table, data_set=name), what).reshape(n_layers, n_heads) for name in names]
        most = max(1.0, float(np.nanmax(np.nan_to_num(np.stack(grids)))))
        for place, (name, grid) in enumerate(zip(names, grids, strict=True)):
            image = heat_map(axes[row, place], grid, most, form)
            axes[row, place].set(title=f"{label}: {name}", xlabel="head", ylabel="layer")
        bar(figure, image, list(axes[row]), label)
    return figure


def sizes(tables: Tables) -> Figure:
    """The distribution of |S| where heads fire and where they do not."""
    table = tables["sizes"]
    names = data_sets(table)
    if not table.num_rows:
        return nothing("No head fired.")
    figure = Figure(figsize=(3.3 * len(names) + 0.6, 3), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for each, name in zip(axes, names, strict=True):
        mine = only(table, data_set=name)
        for fires, label, colour, dash in (
            (True, "firing", COLOURS[0], DASHES[0]),
            (False, "not firing", COLOURS[1], DASHES[1]),
        ):
            rows = only(mine, fires=fires)
            counts = np.bincount(column(rows, "size").astype(int), weights=column(rows, "count"))
            if not counts.sum():
                continue
            mean = counts @ np.arange(len(counts)) / counts.sum()
            text = f"{label}: {counts.sum():,.0f}, mean {mean:.2f}"
            each.step(range(len(counts)), 100 * counts / counts.sum(), where="mid", color=colour, ls=dash, label=text)
        each.set(title=name, xlabel="|S|, singular vectors in a slice")
        each.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        each.margins(y=0.3)
        each.legend(frameon=False, fontsize=8, loc="upper right")
        plain(each)
    axes[0].set_ylabel("% of pairs of tokens")
    return figure


def tau(tables: Tables) -> Figure:
    """What τ costs: |S| and the share of the total kept."""
    table = tables["tau"].filter(pc.field("layer").is_null())
    figure = Figure(figsize=(7.2, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, colour, dash, mark in zip(data_sets(table), COLOURS, DASHES, "os", strict=False):
        mine = only(table, data_set=name)
        style = {"color": colour, "marker": mark, "markersize": 3.5}
        left.plot(column(mine, "tau"), column(mine, "mean_size"), ls=dash, label=name, **style)
        right.plot(column(mine, "tau"), column(mine, "kept_median"), ls=dash, label=f"{name}: median", **style)
        light = {**style, "markerfacecolor": PAPER}
        right.plot(column(mine, "tau"), column(mine, "kept_of_sum"), ls=dash, label=f"{name}: of the sum", **light)
    right.plot([0.5, 1], [0.5, 1], color=SOFT, lw=0.8, ls=(0, (1, 2)), label="τ itself")
    left.set(title="How many vectors a slice takes", xlabel="τ", ylabel="mean |S| on firings")
    right.set(title="Share of the total that it keeps", xlabel="τ", ylabel="Σ over S / Σ over all")
    left.set_ylim(bottom=0)
    for each in (left, right):
        plain(each)
        each.legend(frameon=False, fontsize=8)
    return figure


def filtering(tables: Tables) -> Figure:
    """Effective number of contributing heads, by slices against by every vector; a mark a head."""
    table = tables["filtering"]
    if not table.num_rows or not column(table, "firings").sum():
        return nothing("No head of layer 1 or above fired.")
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    for each, (side, words) in zip(figure.subplots(1, 2), (("dest", "query side"), ("src", "key side")), strict=True):
        colour = SIDE_COLOURS[side]
        for name, inside, mark in zip(data_sets(table), (colour, PAPER), "os", strict=False):
            mine = only(table, data_set=name, side=side)
            whole = mine.filter(pc.field("layer").is_null()).to_pylist()[0]
            by_head = mine.filter(pc.field("layer").is_valid())
            points = column(by_head, "effective_all"), column(by_head, "effective_slice")
            text = f"{name}: ratio {whole['ratio']:.3f}" if whole["ratio"] is not None else name
            look = {"facecolor": inside, "edgecolor": colour, "marker": mark, "linewidths": 0.8}
            each.scatter(*points, s=16, alpha=0.75, label=text, **look)
        _diagonal(each)
        each.set(title=words, xlabel="effective heads, all vectors", ylabel="effective heads, by slices")
        each.legend(frameon=False, fontsize=8, loc="upper left")
        plain(each)
    return figure


def overlaps(tables: Tables) -> Figure:
    """How far the spans of two heads' used vectors overlap, on the prompts."""
    table = only(tables["overlaps"], data_set="prompts")
    if not table.num_rows:
        return nothing("Fewer than two heads fired.")
    ends = [
        np.stack([column(table, f"{of}{name}") for name in ("layer", "head")], 1).astype(int) for of in ("", "other_")
    ]
    heads_seen = np.unique(np.concatenate(ends), axis=0)
    place = {tuple(each): number for number, each in enumerate(heads_seen.tolist())}
    one, other = ([place[tuple(each)] for each in end.tolist()] for end in ends)
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for each, (side, words) in zip(axes, (("dest", "query side (U)"), ("src", "key side (V)")), strict=True):
        grid = np.full((len(place), len(place)), np.nan)
        grid[one, other] = grid[other, one] = column(table, side)
        image = heat_map(each, grid, max(0.05, float(np.nanmax(grid))), None, SIDE_SHADES[side])
        first = [number for number, head in enumerate(heads_seen) if not number or head[0] != heads_seen[number - 1][0]]
        labels = [f"layer {heads_seen[number][0]}" for number in first]
        each.set_xticks(first, labels, fontsize=7)
        each.set_yticks(first, labels, fontsize=7)
        each.set(title=f"Overlap of used vectors, {words}")
        bar(figure, image, [each], "mean squared cosine")
    return figure


def signals(tables: Tables) -> Figure:
    """Cosines between the mean signals of the strongest edges."""
    table, pairs = tables["signals"], tables["signal_pairs"]
    if table.num_rows < 2:
        return nothing("Fewer than two edges to compare.")
    count = min(table.num_rows, 24)
    grid = np.eye(table.num_rows)
    one, other = (column(pairs, name).astype(int) for name in ("signal", "other"))
    grid[one, other] = grid[other, one] = column(pairs, "cosine")
    rows = table.slice(0, count).to_pylist()
    names = [
        f"{row['writer']}→{row['reader']} {row['role']}, {'query' if row['side'] == 'dest' else 'key'}" for row in rows
    ]
    figure = Figure(figsize=(7.6, 6.4), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(grid[:count, :count], "RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(count), names, rotation=90, fontsize=7)
    axes.set_yticks(range(count), names, fontsize=7)
    axes.set_title(f"Cosine between signals, the {count} strongest kinds of edges")
    axes.tick_params(length=0)
    bar(figure, image, [axes], "cosine of mean signals")
    return figure


def _diagonal(axes: Axes) -> None:
    top = max(axes.get_xlim()[1], axes.get_ylim()[1])
    axes.plot([0, top], [0, top], color=SOFT, lw=0.8, ls=(0, (1, 2)), zorder=0)
    axes.set(xlim=(0, top), ylim=(0, top), aspect="equal")


PICTURES = {
    "heads": heads,
    "sizes": sizes,
    "tau": tau,
    "filtering": filtering,
    "overlaps": overlaps,
    "signals": signals,
    "vectors": head_pictures.vectors,
    "firing_products": head_pictures.firing_products,
    "firing_contributions": head_pictures.firing_contributions,
    "tokens": head_pictures.tokens,
}
