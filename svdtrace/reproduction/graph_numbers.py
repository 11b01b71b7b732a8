"""Numbers of the graph in the published form: its size, what it shares with the published one, its strongest edges."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from svdtrace.graphs.filters import GraphFilter, kept
from svdtrace.graphs.names import in_our_form, is_tie, node_name
from svdtrace.reproduction.asked import TOP_FIRINGS, TOP_LAYER
from svdtrace.reproduction.comparison import Key, Measured

Ends = tuple[str, str]


def edges_between_heads(graph: nx.DiGraph) -> dict[Ends, dict[str, float]]:
    """A graph's edges by (writer, reader at a role), ties aside: `("8.6", "9.9@end")`."""
    return {
        (node_name(writer).writer, in_our_form(reader)): each
        for writer, reader, each in graph.edges(data=True)
        if not is_tie(writer)
    }


def graph_numbers(graph: nx.DiGraph, published: nx.DiGraph | None) -> dict[Key, Measured]:
    """The sizes of a graph, and its overlap with the published one."""
    edges = edges_between_heads(graph)
    roles = sum(is_tie(name) for name in graph)
    sizes = {
        "nodes": graph.number_of_nodes(),
        "edges": graph.number_of_edges(),
        "head nodes": graph.number_of_nodes() - roles,
        "role nodes": roles,
        "communication edges": len(edges),
        "role to head edges": graph.number_of_edges() - len(edges),
        "weakly connected components": nx.number_weakly_connected_components(graph),
    }
    if published is not None:
        firings = {node_name(name).writer: int(each["nfiring"]) for name, each in graph.nodes(data=True)}
        top = kept(graph, GraphFilter(firings_min=TOP_FIRINGS, layer_min=TOP_LAYER), firings)
        sizes |= {"top layers, nodes": top.number_of_nodes(), "top layers, edges": top.number_of_edges()}
    found: dict[Key, Measured] = {("graph", name): Measured(size) for name, size in sizes.items()}
    if published is not None:
        known = edges_between_heads(published)
        common = len(known.keys() & edges.keys())
        found["graph", "share of the published edges"] = Measured(common / max(1, len(known)))
        found["graph", "share of other edges"] = Measured((len(edges) - common) / max(1, len(edges)))
    return found


def strongest_edges(graph: nx.DiGraph, count: int) -> tuple[Ends, ...]:
    """The edges with the largest totals."""
    edges = edges_between_heads(graph)
    return tuple(sorted(edges, key=lambda ends: -edges[ends]["total"])[:count])


def edge_numbers(graph: nx.DiGraph, asked: Sequence[Ends]) -> dict[Key, Measured]:
    """Weight and count of the edges that are asked for; those that the graph lacks are left out."""
    edges = edges_between_heads(graph)
    found: dict[Key, Measured] = {}
    for writer, reader in asked:
        each = edges.get((writer, reader))
        for name in ("weight", "count") if each else ():
            found["strongest edges", f"{writer} → {reader} {name}"] = Measured(float(each[name]))
    return found
