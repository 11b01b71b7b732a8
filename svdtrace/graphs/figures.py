"""Picture of a graph in layers: communities by their colour, differences by the colour and dashes of their links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from svdtrace.graphs.names import is_tie, node_name
from svdtrace.pictures.layered_picture import Look, canvas, draw_bands, draw_link, draw_node
from svdtrace.pictures.layers import layered
from svdtrace.pictures.style import DEST, PAPER, SOFT, SRC, STYLE, nothing, save
from svdtrace.results.circuit_graph import OTHER

FILLS = ("#cfe3f1", "#f9dcc4", "#cfeadf", "#f6d9e8", "#fbf3c0", "#dcd6ee", "#d9d9d9")
"""Pale forms of Okabe and Ito's colours; communities beyond these are left white."""
DASHES: Any = (0, (4.5, 2.2))


def graph_picture(graph: nx.DiGraph, path: str | Path, roles: Sequence[str] = (), strongest: int = 60) -> None:
    """Draw a graph's strongest edges, layers upwards, a column for each role.

    Args:
        graph: ours, in the published form, or a difference.
        path: ends in `.svg` or `.png`.
        roles: in the order of their columns; others follow.
        strongest: how many edges, by the size of their totals.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_picture(graph, roles, strongest), path)


def _picture(graph: nx.DiGraph, roles: Sequence[str], strongest: int) -> Figure:
    edges = [edge for edge in graph.edges(data=True) if not is_tie(edge[0])]
    edges.sort(key=lambda edge: -abs(edge[2]["total"]))
    shown = edges[:strongest]
    if not shown:
        return nothing("The graph has no edges.")
    columns = list(dict.fromkeys([*roles, *(node_name(reader).role or OTHER for _, reader, _ in shown)]))
    links = [
        (node_name(writer).writer, node_name(reader).writer, columns.index(node_name(reader).role or OTHER))
        for writer, reader, _ in shown
    ]
    places = layered(links)
    figure, axes = canvas(places)
    # One column for all tokens has no name of its own.
    draw_bands(axes, places, columns if any(node_name(reader).role for _, reader, _ in shown) else columns[:1])
    compared = "here" in shown[0][2]
    largest = abs(shown[0][2]["total"]) or 1.0
    for (writer, reader, role), (*_, each) in zip(links, shown, strict=True):
        less = compared and each["total"] < 0
        look = Look(SRC if less else DEST, DASHES if less else "solid", abs(each["total"]) / largest)
        draw_link(axes, places.nodes[writer, role], places.nodes[reader, role], look)
    community = {node_name(name).writer: int(each.get("community", 0)) for name, each in graph.nodes(data=True)}
    for node in places.nodes.values():
        draw_node(axes, node, fill=_fill(community.get(node.name, 0)))
    present = sorted({community.get(node.name, 0) for node in places.nodes.values()} - {0})
    _draw_legend(
        axes, present, compared, f"{len(shown)} {'largest' if compared else 'strongest'} of {len(edges):,} edges"
    )
    return figure


def _fill(community: int) -> str:
    return FILLS[community - 1] if 0 < community <= len(FILLS) else PAPER


def _draw_legend(axes: Axes, communities: Sequence[int], compared: bool, said: str) -> None:
    named = [number for number in communities if number <= len(FILLS)]
    handles: list[Any] = [
        Patch(facecolor=_fill(number), edgecolor=SOFT, label=f"community {number}") for number in named
    ]
    if len(named) < len(communities):
        handles.append(Patch(facecolor=PAPER, edgecolor=SOFT, label="other communities"))
    if compared:
        handles.append(Line2D([], [], color=DEST, linewidth=2.2, label="more in this trace"))
        handles.append(Line2D([], [], color=SRC, linewidth=2.2, linestyle=DASHES, label="more in the other"))
    handles.append(Line2D([], [], linestyle="none", label=said))
    style = {"frameon": False, "fontsize": 8, "handlelength": 2.4, "columnspacing": 1.4, "borderaxespad": 0.4}
    axes.legend(handles=handles, loc="lower center", ncols=5, **style)
