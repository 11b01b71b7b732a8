"""Pictures of one head and one of its firings, the one of `firing_products.parquet`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from svdtrace.characterisation.drawing import COLOURS, DASHES, bar, column, heat_map, only, plain
from svdtrace.pictures.colours import INK, PALE, PAPER, SIDE_COLOURS, SOFT
from svdtrace.pictures.style import nothing, written

Tables = Mapping[str, pa.Table]
MOST_TOKENS = 30


def vectors(tables: Tables) -> Figure:
    """How often each singular vector of the head is in a slice: prompts × vectors, and over all prompts."""
    head = _head(tables)
    if head is None:
        return nothing("No head of layer 1 or above fired.")
    whole = only(tables["vectors"], data_set="prompts", **head)
    rows = only(tables["vectors_by_prompt"], data_set="prompts", **head)
    prompts, place = np.unique(column(rows, "prompt"), return_inverse=True)
    grid = np.zeros((len(prompts), whole.num_rows))
    grid[place, column(rows, "k").astype(int)] = column(rows, "times") / column(rows, "firings")
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(1, 2.2), sharex=True)
    above.bar(range(whole.num_rows), 100 * column(whole, "share"), color=COLOURS[0], width=0.85)
    above.set(ylabel="% of firings", title=f"Head {head['layer']}.{head['head']}: singular vectors in its slices")
    contrast = only(tables["vectors"], data_set="contrast", **head)
    if contrast.num_rows:
        above.step(
            range(whole.num_rows),
            100 * column(contrast, "share"),
            where="mid",
            color=COLOURS[1],
            ls=DASHES[1],
            label="contrast",
        )
        above.legend(frameon=False, fontsize=8)
    plain(above)
    image = heat_map(below, grid, 1.0, None)
    below.set(xlabel="singular vector k", ylabel="prompts in which it fires")
    for axis in (below.xaxis, below.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    bar(figure, image, [below], "share of the prompt's firings")
    return figure


def firing_products(tables: Tables) -> Figure:
    """The products of one firing, largest first, its slice marked, with their running sum."""
    table = tables["firing_products"]
    if not table.num_rows:
        return nothing("No head of layer 1 or above fired.")
    place, product, running = (column(table, name) for name in ("place", "product", "running_sum"))
    member = table["member"].to_numpy(zero_copy_only=False)
    figure = Figure(figsize=(max(7.2, 0.115 * len(place)), 3.4), layout="constrained")
    axes = figure.subplots()
    axes.bar(place[member], product[member], color=COLOURS[0], width=0.85, label=f"in the slice: {member.sum()}")
    rest = ~member
    axes.bar(
        place[rest], product[rest], color=PALE, width=0.85, hatch="////", edgecolor="#ffffff", lw=0, label="not in it"
    )
    axes.plot(place, running, color=COLOURS[1], marker="o", markersize=2.5, lw=1.2, label="running sum")
    axes.axhline(column(table, "total")[0], color=INK, lw=0.8, ls=(0, (3, 2)), label="total")
    axes.axhline(0, color=SOFT, lw=0.6)
    labels = [f"{k:.0f}" for k in column(table, "k")]
    axes.set_xticks(place, labels, fontsize=6.5, rotation=0 if len(labels) <= 32 else 90)
    axes.set(xlabel="singular vector k, by product", ylabel="product, in the unit of the total", title=_title(table))
    axes.legend(frameon=False, fontsize=8, ncols=2)
    plain(axes)
    return figure


def firing_contributions(tables: Tables) -> Figure:
    """What every head below contributed to one firing, with the slice and with every vector side by side."""
    table = tables["firing_contributions"]
    if not table.num_rows:
        return nothing("No head of layer 1 or above fired.")
    layer, head = (column(table, f"writer_{name}").astype(int) for name in ("layer", "head"))
    shape = layer.max() + 1, head.max() + 1
    figure = Figure(figsize=(max(6.4, 0.7 * shape[1] + 1.6), max(3.8, 0.5 * shape[0] + 2.4)), layout="constrained")
    axes, image = figure.subplots(2, 2), None
    for row, (side, words) in enumerate((("dest", "query side"), ("src", "key side"))):
        mine = only(table, side=side)
        at = tuple(column(mine, f"writer_{name}").astype(int) for name in ("layer", "head"))
        most = max(float(np.abs(np.stack([column(mine, name) for name in ("slice", "all")])).max()), 1e-9)
        for place, (name, label) in enumerate((("slice", "by its slice"), ("all", "by every vector"))):
            grid = np.full(shape, np.nan)
            grid[at] = column(mine, name)
            each = axes[row, place]
            image = each.imshow(grid, "RdBu_r", origin="lower", aspect="auto", vmin=-most, vmax=most)
            each.set(title=f"{words}, {label}", xlabel="writing head", ylabel="its layer")
            if max(shape) <= 12:
                each.set(xticks=range(shape[1]), yticks=range(shape[0]))
            each.tick_params(length=0)
        bar(figure, image, list(axes[row]), "contribution")
    figure.suptitle(_title(table), x=0.02, ha="left", size=10)
    return figure


def tokens(tables: Tables) -> Figure:
    """The tokens with the largest projections onto the head's used vectors, names marked."""
    head = _head(tables)
    table = tables["tokens"]
    if head is None or not table.num_rows:
        return nothing("No head of layer 1 or above fired.")
    figure = Figure(figsize=(7.6, 5.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for each, (side, words) in zip(axes, (("dest", "query side (U)"), ("src", "key side (V)")), strict=True):
        mine = only(table, data_set="prompts", side=side, **head).slice(0, MOST_TOKENS)
        named = mine["named"].to_numpy(zero_copy_only=False)
        place, norm = np.arange(mine.num_rows), column(mine, "norm")
        colour = SIDE_COLOURS[side]
        each.barh(place[named], norm[named], color=colour, height=0.8)
        look = {"facecolor": PAPER, "edgecolor": colour, "hatch": "////", "linewidth": 0.6}
        each.barh(place[~named], norm[~named], height=0.8, **look)
        labels = [written(text) for text in mine["string"].to_pylist()]
        each.set_yticks(place, labels, fontsize=7)
        each.invert_yaxis()
        auc = column(mine, "auc")[0]
        said = "" if np.isnan(auc) else f", names first {auc:.2f} (chance 0.5)"
        each.set(title=f"{head['layer']}.{head['head']} {words}{said}", xlabel="mean norm of the projection")
        each.tick_params(length=0)
    handles = [Patch(facecolor=SOFT, label="name"), Patch(facecolor=PAPER, edgecolor=SOFT, hatch="////", label="other")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return figure


def _head(tables: Tables) -> dict[str, int] | None:
    """The head of the firing that is shown."""
    table = tables["firing_products"]
    return {name: table[name][0].as_py() for name in ("layer", "head")} if table.num_rows else None


def _title(table: pa.Table) -> str:
    first = table.slice(0, 1).to_pylist()[0]
    ends = [f"{first[end]} ({written(first[f'{end}_string'])})" for end in ("dest", "src")]
    return f"Head {first['layer']}.{first['head']} in prompt {first['prompt']}, reading at token {' from '.join(ends)}"
