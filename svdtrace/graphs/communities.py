"""Groups of heads that talk to each other more than to the rest: Louvain's communities, as networkx finds them.

Blondel et al. 2008, arXiv 0803.0476.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TypeVar

import networkx as nx

from svdtrace.graphs.names import edges_of, node_name
from svdtrace.prompts.edge_names import OUTPUT

Graph = TypeVar("Graph", bound=nx.DiGraph)


@dataclass(frozen=True)
class Communities:
    """Groups of writers and readers, the one with the most weight first, and the modularity of the division.

    `members`: names such as `9.6`, in the order of layer and head.
    """

    members: tuple[tuple[str, ...], ...]
    modularity: float


def communities(graph: nx.DiGraph, seed: int = 0) -> Communities:
    """Divide a graph's heads into communities.

    A head and its roles are one; what one sends another is summed over roles and sides, its direction set aside. What
    weighs less than nothing in all takes no part, and the output, which is no head and is written to in logits, none.

    Args:
        graph: ours or in the published form, with the attribute `total`.
        seed: of the order in which Louvain's method visits the heads.
    """
    weights: Counter[tuple[str, str]] = Counter()
    for writer, reader, _, each in edges_of(graph):
        # No head reads itself, and of two heads it is always the same one that reads.
        if reader != OUTPUT:
            weights[node_name(writer).writer, node_name(reader).writer] += each["total"]
    heads = sorted({node_name(name).writer for name in graph if name != OUTPUT}, key=_place)
    # Numbers instead of names: sets of strings have another order in every process.
    number = {head: place for place, head in enumerate(heads)}
    whole = nx.Graph()
    whole.add_nodes_from(number.values())
    for (one, other), weight in sorted(weights.items()):
        if weight > 0:
            whole.add_edge(number[one], number[other], weight=weight)
    if not whole.number_of_edges():
        return Communities(tuple((head,) for head in heads), 0.0)
    parts = nx.community.louvain_communities(whole, seed=seed)
    strength = dict(whole.degree(weight="weight"))
    parts = sorted(map(sorted, parts), key=lambda part: (-sum(strength[each] for each in part), part))
    return Communities(
        tuple(tuple(heads[each] for each in part) for part in parts),
        float(nx.community.modularity(whole, parts)),
    )


def marked(graph: Graph, found: Communities) -> Graph:
    """The graph with the node attribute `community`, counted from 1; the output has none."""
    number = {head: place for place, part in enumerate(found.members, 1) for head in part}
    graph = graph.copy()
    marks = {name: number[node_name(name).writer] for name in graph if name != OUTPUT}
    nx.set_node_attributes(graph, marks, "community")
    return graph


def _place(writer: str) -> tuple[int, str, int]:
    kind, _, number = writer.partition(".")
    return node_name(writer).layer, "" if kind.isdigit() else kind, int(number) if number else -1
