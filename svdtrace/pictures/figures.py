"""Pictures of a trace, in one style: the circuit, firings per head, slice sizes.

    circuit_picture(trace, "circuit.svg")

SVG and PNG, the same bytes for the same trace.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Patch
from matplotlib.path import Path as Way
from matplotlib.ticker import MaxNLocator

from svdtrace.pictures.colours import INK, PALE, PAPER, SIDE_COLOURS, SIDE_DASHES, SOFT, SRC
from svdtrace.pictures.connections import SIDES, ConnectionCount, Connections, MoveCount, Moves
from svdtrace.pictures.layered_picture import ASIDE, Look, canvas, draw_bands, draw_legend, draw_link, draw_node
from svdtrace.pictures.layers import Layered, Node, layered
from svdtrace.pictures.routing import Routing
from svdtrace.pictures.style import BLUES, STYLE, nothing, save
from svdtrace.pictures.token_roles import role_names
from svdtrace.pictures.traced import Traced, model_of


def circuit_picture(trace: Traced, path: str | Path, strongest: int = 40) -> None:
    """Draw the circuit in layers: its strongest connections, and the firings that join their tokens.

    Args:
        trace: a trace.
        path: ends in `.svg`, `.png` or `.pdf`.
        strongest: how many connections, by total weight.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(circuit_figure(trace, strongest), path)


def firings_per_head(trace: Traced, path: str | Path) -> None:
    """Draw how often each head fired, layers × heads.

    Args:
        trace: a trace.
        path: ends in `.svg`, `.png` or `.pdf`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_heat_map(trace), path)


def slice_sizes(trace: Traced, path: str | Path, head: str | None = None) -> None:
    """Draw how many singular vectors carry a firing: the histogram of |S|.

    Args:
        trace: a trace.
        path: ends in `.svg`, `.png` or `.pdf`.
        head: a head to draw beside all, `9.6`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_histogram(trace, head), path)


def circuit_figure(trace: Traced, strongest: int) -> Figure:
    """The figure of `circuit_picture`, in whatever style is set."""
    roles = role_names([trace])
    linking, moving = ConnectionCount(), MoveCount()
    linking.add(trace, roles)
    moving.add(trace, roles)
    linked = linking.connections()
    shown = range(min(strongest, len(linked)))
    readers = [f"{linked.layer[each]}.{linked.head[each]}" for each in shown]
    links = [(linked.writer[each], readers[each], int(linked.role[each])) for each in shown]
    if not links:
        return nothing("No edges were traced.")
    places = layered(links)
    figure, axes = canvas(places)
    draw_bands(axes, places, roles)
    routing = Routing(places)
    for each, (writer, reader, role) in zip(shown, links, strict=True):
        ends = places.nodes[writer, role], places.nodes[reader, role]
        draw_link(axes, routing.upwards(*ends, ASIDE[SIDES[linked.side[each]]]), _connection(linked, each))
    roots = str(trace.manifest.get("config", {}).get("roots", "")).split(",")
    root_nodes = {root.split(":")[0].strip() for root in roots}
    drawn_roots = [node for node in places.nodes.values() if f"{node.name}@{roles[node.role]}" in root_nodes]
    moves = _shown_moves(moving.moves(), places)
    for source, target in moves:
        _draw_move(axes, routing.across(source, target))
    for node in places.nodes.values():
        draw_node(axes, node, is_root=node in drawn_roots)
    sides = {SIDES[linked.side[each]] for each in shown}
    draw_legend(
        figure, axes, _legend(sides, bool(moves), bool(drawn_roots), f"{len(links)} strongest of {len(linked):,}")
    )
    return figure


def _heat_map(trace: Traced) -> Figure:
    layer, head = (trace.firings[name].to_numpy().astype(int) for name in ("layer", "head"))
    if not len(layer):
        return nothing("No head fired.")
    model = model_of(trace.manifest)
    shape = int(model.get("n_layers", layer.max() + 1)), int(model.get("n_heads", head.max() + 1))
    times = np.zeros(shape, int)
    np.add.at(times, (layer, head), 1)
    # Layer 0 has no firings in a trace: nothing lies before it.
    low = min(1, shape[0] - 1)
    figure = Figure(figsize=(1.6 + 0.45 * shape[1], 1.2 + 0.34 * shape[0]), layout="constrained")
    axes = figure.subplots()
    extent = (-0.5, shape[1] - 0.5, low - 0.5, shape[0] - 0.5)
    image = axes.imshow(np.sqrt(times[low:]), BLUES, origin="lower", aspect="auto", vmin=0, extent=extent)
    size = 8 if times.max() < 1000 else 6.5
    for (row, column), many in np.ndenumerate(times):
        colour = PAPER if many > 0.3 * times.max() else INK
        axes.text(column, row, f"{many}" if many else "", ha="center", va="center", size=size, color=colour)
    title = f"Firings per head: {len(layer):,} in {trace.prompts.num_rows:,} prompts"
    axes.set(xlabel="head", ylabel="layer", title=title, xticks=range(shape[1]), yticks=range(low, shape[0]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, aspect=18, label="firings")
    ticks = [tick for tick in MaxNLocator(4, integer=True).tick_values(0, times.max()) if tick <= times.max()]
    bar.set_ticks(np.sqrt(ticks).tolist(), labels=[f"{tick:,.0f}" for tick in ticks])
    bar.outline.set_visible(False)
    return figure


def _histogram(trace: Traced, head: str | None) -> Figure:
    layer, number, size = (trace.firings[name].to_numpy() for name in ("layer", "head", "size"))
    if not len(size):
        return nothing("No head fired.")
    figure = Figure(figsize=(6.2, 3.2), layout="constrained")
    axes = figure.subplots()
    _draw_sizes(axes, size, "all firings", PALE, 0.86, size.max())
    if head is not None:
        names = np.asarray([f"{each}.{other}" for each, other in zip(layer, number, strict=True)])
        _draw_sizes(axes, size[names == head], f"head {head}", SRC, 0.42, size.max())
    d_head = model_of(trace.manifest).get("d_head")
    of = f" (of {d_head})" if d_head else ""
    axes.set(xlabel=f"|S|, singular vectors in a slice{of}", ylabel="% of firings")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.tick_params(length=2)
    axes.grid(axis="y", color="#e4e1da", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.margins(y=0.3)
    axes.legend(frameon=False, loc="upper right")
    return figure


def _draw_sizes(axes: Axes, sizes: np.ndarray, name: str, colour: str, width: float, largest: int) -> None:
    if not len(sizes):
        return
    shares = 100 * np.bincount(sizes, minlength=largest + 1) / len(sizes)
    label = f"{name}: {len(sizes):,}, mean {sizes.mean():.1f}"
    least = min(1, sizes.min())
    axes.bar(np.arange(least, largest + 1), shares[least:], width, color=colour, label=label, linewidth=0)


def _shown_moves(moved: Moves, places: Layered) -> list[tuple[Node, Node]]:
    """From the token that a head reads to the token that it writes to, where both are in the picture."""
    shown = []
    for layer, head, dest, src in zip(moved.layer, moved.head, moved.dest, moved.src, strict=True):
        ends = [places.nodes.get((f"{layer}.{head}", int(role))) for role in (src, dest)]
        if ends[0] is not None and ends[1] is not None and ends[0] is not ends[1]:
            shown.append((ends[0], ends[1]))
    return shown


def _draw_move(axes: Axes, way: Way) -> None:
    arrow = FancyArrowPatch(path=way, arrowstyle="->", mutation_scale=7)
    arrow.set(color=SOFT, linewidth=0.9, linestyle=(0, (1, 1.8)), zorder=2)
    axes.add_patch(arrow)


def _connection(linked: Connections, each: int) -> Look:
    side = SIDES[linked.side[each]]
    strength = max(0.0, linked.total[each] / max(linked.total[0], 1e-12))
    return Look(SIDE_COLOURS[side], SIDE_DASHES[side], strength)


def _legend(sides: set[str], moves: bool, roots: bool, shown: str) -> list[Artist]:
    """What is drawn, and nothing else."""
    named = {"dest": "query side (what a head looks for)", "src": "key side (what it finds)"}
    lines: list[Artist] = [
        Line2D([], [], color=SIDE_COLOURS[side], linewidth=2.2, linestyle=SIDE_DASHES[side], label=label)
        for side, label in named.items()
        if side in sides
    ]
    if moves:
        lines.append(Line2D([], [], color=SOFT, linewidth=1.1, linestyle=(0, (1, 1.8)), label="a head at work"))
    if roots:
        lines.append(Patch(facecolor=PAPER, edgecolor=INK, linewidth=1.8, label="a root"))
    return [
        *lines,
        Line2D([], [], color=SOFT, linewidth=3.6, label="the wider and darker, the more weight"),
        Line2D([], [], linestyle="none", label=f"{shown} connections"),
    ]
