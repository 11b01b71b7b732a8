"""Places for a picture of the circuit: layers as rows, roles as columns, as in the page.

In the page's picture a writer stands at the token that it wrote to, a reader at the token that it read, so that
connections run upwards within a column; in a graph's every node has a column of its own. Lengths are points, 1/72 inch;
y grows upwards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from svdtrace.prompts.edge_names import OUTPUT

Place = tuple[str, int]
"""A writer or reader, and the number of a role."""
NODE_WIDTH, WIDE_NODE, NODE_HEIGHT = 34.0, 48.0, 17.0
"""Of heads, of writers with longer names, of all."""
GAP, COURSE = 12.0, 32.0
ROW, ROW_WITH_OTHERS = 66.0, 96.0
_SWEEPS = 4


@dataclass
class Node:
    """A writer or reader at a role: its name, column and row (a layer; MLPs and biases lie between), and its place."""

    name: str
    role: int
    row: float
    x: float = 0.0
    y: float = 0.0
    neighbours: list[Node] = field(default_factory=list, repr=False)

    @property
    def width(self) -> float:
        """By the length of the name."""
        return NODE_WIDTH if self.name[0].isdigit() else WIDE_NODE


@dataclass(frozen=True)
class Column:
    """A role's column: its middle and its width."""

    role: int
    x: float
    width: float


@dataclass(frozen=True)
class Layered:
    """Nodes by (name, role), columns from left to right, rows as (label, y) from below."""

    nodes: Mapping[tuple[str, int], Node]
    columns: Sequence[Column]
    rows: Sequence[tuple[str, float]]


def row_of(name: str) -> float:
    """The row of a writer: a head's layer; above it what its layer's other parts write; below all, the input.

    Args:
        name: `8.6`, `mlp.3`, `attn_bias.3`, `embed`, `pos` or `const`.
    """
    kind, _, number = name.partition(".")
    above = {"attn_bias": 1 / 3, "mlp": 2 / 3}
    if kind in above:
        return int(number) + above[kind]
    return float(kind) if kind.isdigit() else -1.0


def layered(links: Sequence[tuple[str, str, int]]) -> Layered:
    """Place the nodes of connections, both in one column.

    Args:
        links: writer, reader and number of the role of each.
    """
    return placed([((writer, role), (reader, role)) for writer, reader, role in links])


def placed(links: Sequence[tuple[Place, Place]], alone: Sequence[Place] = ()) -> Layered:
    """Place the nodes of links.

    Args:
        links: writer and reader, each with the number of its role.
        alone: further nodes, which need no link.
    """
    nodes = _linked(links, alone)
    cells: dict[tuple[int, float], list[Node]] = defaultdict(list)
    for node in nodes.values():
        cells[node.role, node.row].append(node)
    for cell in cells.values():
        cell.sort(key=lambda node: [int(part) if part.isdigit() else 0 for part in node.name.split(".")])
    # A crowded cell is laid like bricks, in two or more courses.
    broadest = max(5, 18 // max(1, len({role for role, _ in cells})))
    courses = {place: -(-len(cell) // broadest) for place, cell in cells.items()}
    columns = _columns(cells, courses)
    between = any(node.row % 1 for node in nodes.values())
    broad = COURSE * (max(courses.values(), default=1) - 1)
    step = (ROW_WITH_OTHERS if between else ROW) + broad
    middle = {column.role: column.x for column in columns}
    most = {row: max(courses[place] for place in cells if place[1] == row) for _, row in cells}

    def spread(place: tuple[int, float]) -> None:
        # Cells of one row share its courses, so that a line that passes them all meets nodes at few heights.
        above = (most[place[1]] - 1) / 2 - (most[place[1]] - courses[place]) // 2
        layer, part = divmod(place[1], 1)
        y = layer * step + (broad / 2 + part * ROW_WITH_OTHERS if part else 0.0)
        _spread(cells[place], courses[place], middle[place[0]], y + above * COURSE)

    for place in cells:
        spread(place)
    # Within a cell, nodes go where their neighbours are: a few sweeps of the mean neighbour.
    for _ in range(_SWEEPS):
        for place, cell in cells.items():
            cell.sort(key=_mean_neighbour)
            spread(place)
    whole = sorted({int(node.row // 1) for node in nodes.values()})
    layers = range(whole[0], whole[-1] + 1) if whole else range(0)
    named = {-1: "input", **{int(node.row): OUTPUT for node in nodes.values() if node.name == OUTPUT}}
    return Layered(nodes, columns, [(named.get(layer, str(layer)), layer * step) for layer in layers])


def _linked(links: Sequence[tuple[Place, Place]], alone: Sequence[Place]) -> dict[Place, Node]:
    """Nodes that know their neighbours and their rows; the output's lies above all others."""
    ends = [end for link in links for end in link]
    rows = {name: row_of(name) for name, _ in (*ends, *alone) if name != OUTPUT}
    rows[OUTPUT] = 1.0 + max((row // 1 for row in rows.values()), default=-1.0)
    nodes = {place: Node(*place, rows[place[0]]) for place in (*ends, *alone)}
    for writer, reader in links:
        nodes[writer].neighbours.append(nodes[reader])
        nodes[reader].neighbours.append(nodes[writer])
    return nodes


def _columns(
    cells: Mapping[tuple[int, float], Sequence[Node]], courses: Mapping[tuple[int, float], int]
) -> list[Column]:
    columns, x = [], 0.0
    for role in sorted({role for role, _ in cells}):
        own = [(cell, courses[place]) for place, cell in cells.items() if place[0] == role]
        broadest = max((-(-len(cell) // many) + (0.5 if many > 1 else 0)) * _pitch(cell) for cell, many in own)
        width = max(broadest, WIDE_NODE) + 18.0
        columns.append(Column(role, x + width / 2, width))
        x += width + 6.0
    return columns


def _pitch(cell: Sequence[Node]) -> float:
    """From node to node of one course."""
    return max(node.width for node in cell) + GAP


def _spread(cell: Sequence[Node], courses: int, x: float, top: float) -> None:
    for place, node in enumerate(cell):
        node.x = x + (place - (len(cell) - 1) / 2) * _pitch(cell) / courses
        node.y = top - place % courses * COURSE


def _mean_neighbour(node: Node) -> float:
    return sum(each.x for each in node.neighbours) / len(node.neighbours) if node.neighbours else node.x
