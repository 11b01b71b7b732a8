"""What pictures in layers have in common, those of traces and those of graphs: canvas, bands, nodes, links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.text import Text

from svdtrace.pictures.colours import BANDS, INK, PAPER, SOFT
from svdtrace.pictures.layers import NODE_HEIGHT, Layered, Node
from svdtrace.pictures.style import written

ASIDE = {"dest": -7.0, "src": 7.0}
"""By how much a side's link arrives aside, so that two between the same nodes stand beside each other."""


@dataclass(frozen=True)
class Look:
    """How a link is drawn: colour, dashes, strength (0 to 1: width and opacity)."""

    colour: str
    dashes: Any
    strength: float


def canvas(places: Layered) -> tuple[Figure, Axes]:
    """A figure whose data coordinates are points, with room for labels; `draw_legend` adds its own."""
    left = places.columns[0].x - places.columns[0].width / 2 - 42
    right = places.columns[-1].x + places.columns[-1].width / 2 + 10
    low, high = reach(places)
    # The legend needs some width, however narrow the circuit.
    spare = max(0.0, 600 - (right - left)) / 2
    box = (left - spare, right + spare, low - 14, high + 26)
    figure = Figure(figsize=((box[1] - box[0]) / 72, (box[3] - box[2]) / 72))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(box[0], box[1])
    axes.set_ylim(box[2], box[3])
    axes.axis("off")
    return figure, axes


def reach(places: Layered) -> tuple[float, float]:
    """The lowest and highest y of the bands."""
    heights = [*(node.y for node in places.nodes.values()), *(y for _, y in places.rows)]
    return min(heights) - 22, max(heights) + 30


def draw_bands(axes: Axes, places: Layered, names: Sequence[str]) -> None:
    """Draw a column for each role, with its name, and the numbers of the layers."""
    low, high = reach(places)
    for number, column in enumerate(places.columns):
        left = column.x - column.width / 2
        shape = FancyBboxPatch((left + 3, low), column.width - 6, high - low, boxstyle="round,pad=0,rounding_size=5")
        shape.set(facecolor=BANDS[number % 2], edgecolor="none", zorder=0)
        axes.add_patch(shape)
        name = written(names[column.role]) if len(names) > 1 else "all tokens"
        text = axes.text(column.x, high + 8, name, ha="center", va="bottom", weight="bold", size=9)
        _shorten(text, column.width)
    left = places.columns[0].x - places.columns[0].width / 2
    for label, y in places.rows:
        axes.text(left - 8, y, label, ha="right", va="center", color=SOFT)
    axes.text(left - 36, (low + high) / 2, "layer", rotation=90, ha="center", va="center", color=SOFT)


def draw_legend(figure: Figure, axes: Axes, handles: Sequence[Artist]) -> None:
    """Draw the legend below all, in as few rows as its words fit into."""
    style = {"frameon": False, "fontsize": 8, "handlelength": 2.6, "columnspacing": 1.4, "borderaxespad": 0.8}
    taken, rows = axes.bbox, 0
    while not rows or (taken.width > axes.bbox.width and rows < len(handles)):
        rows += 1
        legend = axes.legend(handles=handles, loc="lower center", ncols=-(-len(handles) // rows), **style)
        taken = legend.get_window_extent()
    width, height = figure.get_size_inches()
    more = taken.height / axes.bbox.height * height
    figure.set_size_inches(width, height + more)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 72 * more, high)


def _shorten(text: Text, width: float) -> None:
    """Take letters from the end of a text until it fits into so many points."""
    name = text.get_text()
    points = 72 / text.get_figure(root=True).dpi
    while len(name) > 1 and text.get_window_extent().width * points > width:
        name = name[:-1]
        text.set_text(f"{name}…")


def draw_link(axes: Axes, way: Path, look: Look) -> None:
    """Draw an arrow from a writer up to a reader.

    Args:
        axes: of `canvas`.
        way: of `Routing.upwards`.
        look: how it is drawn.
    """
    arrow = FancyArrowPatch(path=way, arrowstyle="-|>,head_length=0.5,head_width=0.22", mutation_scale=9)
    arrow.set(linewidth=0.9 + 3.4 * look.strength**0.8, alpha=0.45 + 0.5 * look.strength**0.5, zorder=3)
    arrow.set(color=look.colour, linestyle=look.dashes, capstyle="butt")
    axes.add_patch(arrow)


def draw_node(axes: Axes, node: Node, *, is_root: bool = False, fill: str = PAPER) -> None:
    """Draw a writer or reader; a root has a thicker frame."""
    corner = (node.x - node.width / 2, node.y - NODE_HEIGHT / 2)
    box = FancyBboxPatch(corner, node.width, NODE_HEIGHT, boxstyle="round,pad=0,rounding_size=4.5")
    box.set(facecolor=fill, edgecolor=INK if is_root else SOFT, linewidth=1.8 if is_root else 0.8, zorder=5)
    axes.add_patch(box)
    size = 8.5 if node.name[0].isdigit() else 6.5
    weight = "bold" if is_root else "normal"
    axes.text(node.x, node.y - 0.3, node.name, ha="center", va="center", size=size, weight=weight, zorder=6)
