"""What a person would see wrong in a picture: words on one another, cut off or too small, legends over what is drawn,
lines through nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Bbox

SLACK = 1.0
"""Points by which boxes of words may touch: they hold the room of accents and descenders."""
SMALLEST = 6.0
"""Points of the smallest letters."""


def words(figure: Figure) -> list[tuple[str, Bbox, float]]:
    """Every text that is drawn: its box and the size of its letters, both in points."""
    ticks = {
        label: axis.get_view_interval()[0] <= tick.get_loc() <= axis.get_view_interval()[1]
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    found = [each for each in figure.findobj(Text) if isinstance(each, Text) and each.get_text().strip()]
    shown = [each for each in found if each.get_visible() and ticks.get(each, True)]
    return [
        (each.get_text(), in_points(figure, each.get_window_extent()), float(each.get_fontsize())) for each in shown
    ]


def in_points(figure: Figure, box: Bbox) -> Bbox:
    return Bbox(box.get_points() * 72 / figure.dpi)


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    shown = [(text, box.padded(-SLACK)) for text, box, _ in words(figure)]
    return [(one, other) for (one, box), (other, second) in combinations(shown, 2) if box.overlaps(second)]


def cut_off(figure: Figure) -> list[str]:
    width, height = 72 * figure.get_size_inches()
    whole = Bbox.from_bounds(0, 0, width, height).padded(SLACK)
    return [text for text, box, _ in words(figure) if not all(whole.contains(*point) for point in box.get_points())]


def hidden_by_legends(figure: Figure) -> list[str]:
    """Legends that lie over bars, points or lines of their axes."""
    return [
        f"legend over {kind}"
        for axes in figure.axes
        if (legend := axes.get_legend()) is not None
        for kind, points in drawn(axes)
        if within(legend.get_window_extent(), points).any()
    ]


def within(box: Bbox, points: np.ndarray) -> np.ndarray:
    (x0, y0), (x1, y1) = box.get_points()
    x, y = points.T
    return (x > x0) & (x < x1) & (y > y0) & (y < y1)


def drawn(axes: Axes) -> Iterator[tuple[str, np.ndarray]]:
    """Points on bars, lines and marks, as they lie on the canvas."""
    for bar in axes.patches:
        if not isinstance(bar, FancyArrowPatch | FancyBboxPatch):
            x, y = bar.get_window_extent().get_points().T
            yield (
                "bars",
                np.stack(np.meshgrid(np.linspace(x[0], x[1], 9), np.linspace(y[0], y[1], 9)), -1).reshape(-1, 2),
            )
    for line in axes.lines:
        points = np.asarray(line.get_xydata(), float)
        if line.get_linestyle() != "None" and line.get_transform() == axes.transData and len(points) > 2:
            shown = line.get_transform().transform(points[np.isfinite(points).all(1)])
            yield "a line", np.asarray(Path(shown).interpolated(20).vertices)
    for marks in axes.collections:
        yield "marks", marks.get_offset_transform().transform(np.ma.filled(marks.get_offsets(), np.nan))


def crossed(figure: Figure) -> list[str]:
    """Nodes that arrows run through, as far as half a point inside."""
    found = []
    for axes in figure.axes:
        nodes = [each.get_bbox() for each in axes.patches if isinstance(each, FancyBboxPatch) and each.get_zorder() > 4]
        arrows = [each.get_path() for each in axes.patches if isinstance(each, FancyArrowPatch)]
        lines = [line for path in arrows for line in path.to_polygons(closed_only=False)]
        if nodes and lines:
            points = np.concatenate([Path(line).interpolated(9).vertices for line in lines])
            found += [str(node) for node in nodes if within(node.padded(-0.5), points).any()]
    return found


def faults(figure: Figure) -> dict[str, list[Any]]:
    """What is wrong with a figure, by kind; empty where all is well."""
    figure.draw_without_rendering()
    small = [text for text, _, size in words(figure) if size < SMALLEST]
    found = {"overlapping": overlapping(figure), "cut off": cut_off(figure), "small": small}
    found |= {"hidden": hidden_by_legends(figure), "crossed": crossed(figure)}
    return {name: each for name, each in found.items() if each}
