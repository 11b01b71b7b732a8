"""Picture of a graph in layers: sides by the colour of their links, communities by that of nodes, differences by both
colour and dashes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import networkx as nx
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from svdtrace.graphs.layout import laid_out, role_columns
from svdtrace.graphs.names import edges_of, in_our_form, is_published, node_name
from svdtrace.pictures.colours import FILLS, INK, PAPER, SIDE_COLOURS, SIDE_DASHES, SOFT
from svdtrace.pictures.layered_picture import ASIDE, Look, canvas, draw_bands, draw_legend, draw_link, draw_node
from svdtrace.pictures.routing import Routing
from svdtrace.pictures.style import STYLE, nothing, save
from svdtrace.prompts.edge_names import OUTPUT

MORE, LESS = "#009e73", "#cc79a7"
"""Colours of differences: neither stands for a side."""
DASHES: Any = (0, (4.5, 2.2))
SIDES_OF_TYPES = {"d": "dest", "s": "src"}
Edge = tuple[str, str, str | None, Mapping[str, Any]]
SAID = {"dest": "query side (what a head looks for)", "src": "key side (what it finds)", OUTPUT: "direct effect"}


def graph_picture(graph: nx.DiGraph, path: str | Path, roles: Sequence[str] = (), strongest: int = 60) -> None:
    """Draw a graph's strongest edges, layers upwards, a column for each role.

    Args:
        graph: ours, in the published form, or a difference.
        path: ends in `.svg`, `.png` or `.pdf`.
        roles: in the order of their columns; others follow.
        strongest: how many edges, by the size of their totals.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_picture(graph, roles, strongest), path)


def _picture(graph: nx.DiGraph, roles: Sequence[str], strongest: int) -> Figure:
    edges = edges_of(graph)
    # What is written into the output is in logits and has a scale of its own.
    largest = {
        into: max((abs(each["total"]) for _, reader, _, each in edges if (reader == OUTPUT) == into), default=0.0)
        for into in (False, True)
    }

    def strength(edge: Edge) -> float:
        return abs(edge[3]["total"]) / (largest[edge[1] == OUTPUT] or 1.0)

    shown = sorted(edges, key=strength, reverse=True)[:strongest]
    if not shown:
        return nothing("The graph has no edges.")
    links = [_ends(writer, reader) for writer, reader, *_ in shown]
    ends = {name for link in links for name in link}
    columns = role_columns([name for name in graph if name in ends] + sorted(ends), roles)
    places, nodes = laid_out(links, columns)
    figure, axes = canvas(places)
    # One column for all tokens has no name of its own.
    draw_bands(axes, places, columns if any(node_name(name).role for name in ends) else columns[:1])
    compared = "here" in shown[0][3]
    routing = Routing(places)
    ways = [
        routing.upwards(nodes[writer], nodes[reader], ASIDE.get(_side(edge), 0.0))
        for edge, (writer, reader) in zip(shown, links, strict=True)
    ]
    for edge, way in zip(reversed(shown), reversed(ways), strict=True):
        draw_link(axes, way, _look(_side(edge), edge[3]["total"], strength(edge), compared))
    community = {node_name(name).writer: int(each.get("community", 0)) for name, each in graph.nodes(data=True)}
    for node in nodes.values():
        draw_node(axes, node, fill=_fill(community.get(node.name, 0)))
    present = sorted({community.get(node.name, 0) for node in nodes.values()} - {0})
    said = f"{len(shown)} {'largest' if compared else 'strongest'} of {len(edges):,} edges"
    draw_legend(figure, axes, _legend(present, {_side(edge) for edge in shown}, compared, said))
    return figure


def _ends(writer: str, reader: str) -> tuple[str, str]:
    """The nodes that a link runs between, in our form; a published writer stands where its reader reads."""
    if not is_published(reader):
        return writer, reader
    role = node_name(reader).role
    return in_our_form(writer) if role is None else f"{node_name(writer).writer}@{role}", in_our_form(reader)


def _side(edge: Edge) -> str:
    """An edge's side, which a published one calls its type."""
    *_, side, each = edge
    return side or SIDES_OF_TYPES.get(each.get("type", ""), "")


def _look(side: str, total: float, strength: float, compared: bool) -> Look:
    if compared:
        colour, dashes = (LESS, DASHES) if total < 0 else (MORE, "solid")
    else:
        colour, dashes = SIDE_COLOURS.get(side, INK), SIDE_DASHES.get(side, "solid")
    return Look(colour, dashes, strength)


def _fill(community: int) -> str:
    return FILLS[community - 1] if 0 < community <= len(FILLS) else PAPER


def _legend(communities: Sequence[int], sides: set[str], compared: bool, said: str) -> list[Artist]:
    named = [number for number in communities if number <= len(FILLS)]
    handles: list[Artist] = [
        Patch(facecolor=_fill(number), edgecolor=SOFT, label=f"community {number}") for number in named
    ]
    if len(named) < len(communities):
        handles.append(Patch(facecolor=PAPER, edgecolor=SOFT, label="other communities"))
    if compared:
        handles.append(Line2D([], [], color=MORE, linewidth=2.2, label="more in this trace"))
        handles.append(Line2D([], [], color=LESS, linewidth=2.2, linestyle=DASHES, label="more in the other"))
    else:
        for side in (side for side in SAID if side in sides):
            look = _look(side, 1.0, 1.0, compared)
            handles.append(Line2D([], [], color=look.colour, linewidth=2.2, linestyle=look.dashes, label=SAID[side]))
    return [*handles, Line2D([], [], linestyle="none", label=said)]
