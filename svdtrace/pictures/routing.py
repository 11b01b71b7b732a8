"""Ways of lines around nodes, so that no line of a picture in layers runs through a node that is not at its end.

Nodes stand on shelves, one for each height, and between two shelves the picture is free from side to side. A line
leaves its writer upwards and runs in S-curves, upright at both ends; where a curve would hit a node of a shelf, the
line passes that shelf upright through the nearest gap, beside the lines that pass there already.
"""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.path import Path

from svdtrace.pictures.layers import NODE_HEIGHT, Layered, Node

CLEAR = 2.5
"""How far a line keeps from nodes that it passes, and how far apart lines pass, where there is room."""
TOP = NODE_HEIGHT / 2
LANE, LANES = 4.0, 22.0
"""How far lines above a shelf lie apart, and over what height above the uppermost one."""
Point = tuple[float, float]
_T = np.linspace(0, 1, 65)
_ACROSS, _UP = 3 * _T**2 - 2 * _T**3, 1.5 * _T * (1 - _T) + _T**3
"""The Bézier curve from (0, 0) over (0, 1/2) and (1, 1/2) to (1, 1): x and y, which both only grow."""


class Routing:
    """Ways of lines between placed nodes. Ask for the most important lines first: they get the straightest ways."""

    def __init__(self, places: Layered) -> None:
        self._shelves: dict[float, list[Node]] = defaultdict(list)
        for node in sorted(places.nodes.values(), key=lambda node: node.x):
            self._shelves[node.y].append(node)
        self._heights = sorted(self._shelves)
        first, last = places.columns[0], places.columns[-1]
        self._ends = first.x - first.width / 2, last.x + last.width / 2
        self._passing: dict[float, list[float]] = defaultdict(list)
        self._lanes: list[tuple[float, float, float]] = []

    def upwards(self, source: Node, target: Node, aside: float) -> Path:
        """The way from the top of a writer to the foot of a reader above it.

        Args:
            source, target: the nodes.
            aside: how far beside the reader's middle it arrives.
        """
        along = target.x - source.x
        start = source.x + float(np.clip(along / 8, -10, 10)), source.y + TOP
        end = target.x + aside - float(np.clip(along / 32, -4, 4)), target.y - TOP
        return Path(*_curved([start, *self._bends(start, end), end]))

    def across(self, source: Node, target: Node) -> Path:
        """The way from the top of a node to the top of another beside it: up, along a lane above both, and down."""
        ahead = 1.0 if target.x > source.x else -1.0
        start, end = (source.x + 10 * ahead, source.y + TOP), (target.x - 10 * ahead, target.y + TOP)
        lane = self._lane(max(source.y, target.y), *sorted((start[0], end[0])))
        corner = min(3.0, lane - max(start[1], end[1]), abs(end[0] - start[0]) / 2)
        up, down = (start[0], lane - corner), (end[0], lane - corner)
        rising, rises = _curved([start, *self._bends(start, up), up])
        falling, falls = _curved([end, *self._bends(end, down), down])
        along = [(start[0], lane), (start[0] + corner * ahead, lane), (end[0] - corner * ahead, lane), (end[0], lane)]
        turns = [Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3]
        return Path([*rising, *along, *falling[::-1]], [*rises, *turns, *falls[1:]])

    def _bends(self, start: Point, end: Point) -> list[Point]:
        """Where the way bends: below and above the first shelf that it would hit, and so on, on both sides of it."""
        reach = CLEAR + TOP
        y, x = start[1] + (end[1] - start[1]) * _UP, start[0] + (end[0] - start[0]) * _ACROSS
        for height in self._heights:
            if start[1] < height < end[1]:
                low, high = sorted(np.interp((height - TOP, height + TOP), y, x))
                if any(low < node.x + _half(node) and high > node.x - _half(node) for node in self._shelves[height]):
                    # Its run from side to side is the longer, the higher the room for it.
                    below, above = (height - start[1]) ** 3, (end[1] - height) ** 3
                    place = self._gap(height, start[0] + (end[0] - start[0]) * below / (below + above))
                    foot, head = (place, height - reach), (place, height + reach)
                    return [*self._bends(start, foot), foot, head, *self._bends(head, end)]
        return []

    def _gap(self, height: float, wished: float) -> float:
        """The free place of a shelf nearest to the one wished for, beside the lines that pass it already."""
        edges = [self._ends[0], *(node.x + side * _half(node) for node in self._shelves[height] for side in (-1, 1))]
        stretches = list(zip(edges[::2], [*edges[1::2], self._ends[1]], strict=True))
        taken = self._passing[height]
        near = [
            place
            for low, high in stretches
            for step in range(-4, 5)
            if low <= (place := min(max(wished, low), high) + step * CLEAR) <= high
        ]
        crowd = {place: sum(abs(place - other) < CLEAR for other in taken) for place in near}
        taken.append(min(near, key=lambda place: abs(place - wished) + 12 * crowd[place]))
        return taken[-1]

    def _lane(self, height: float, low: float, high: float) -> float:
        """The height of the emptiest lane above a shelf, the lowest of several."""
        place = bisect(self._heights, height)
        room = self._heights[place] - height - 2 * TOP if place < len(self._heights) else LANES
        lanes = [height + TOP + LANE * (number + 0.75) for number in range(1, max(2, int(room // LANE) - 1))]
        shared = [sum(y == lane and one < high and other > low for y, one, other in self._lanes) for lane in lanes]
        self._lanes.append((lanes[int(np.argmin(shared))], low, high))
        return self._lanes[-1][0]


def _half(node: Node) -> float:
    return node.width / 2 + CLEAR


def _curved(points: list[Point]) -> tuple[list[Point], list[Any]]:
    """Vertices and codes of S-curves from point to point, upright at each."""
    vertices = [points[0]]
    for (x, y), (to, up) in pairwise(points):
        vertices += [(x, (y + up) / 2), (to, (y + up) / 2), (to, up)]
    return vertices, [Path.MOVETO, *[Path.CURVE4] * (len(vertices) - 1)]
