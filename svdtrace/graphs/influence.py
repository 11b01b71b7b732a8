"""How much of what is written last goes back to each node, over all ways: circuit-tracer's influence.

With A a reader's links divided by the sum of their sizes and w what starts with weight (the outputs), influence is
`w (A + A² + …)`, summed here reader by reader from the top, which comes to the same in a graph without cycles. What the
viewer holds a threshold against is cumulative: the share of all influence that belongs to this node and to those with
more (`circuit_tracer/graph.py`, `prune_graph`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import networkx as nx

from svdtrace.graphs.attribution_names import Place
from svdtrace.prompts.edge_names import OUTPUT


def cumulative_influence(links: Mapping[tuple[Place, Place], float], starts: Sequence[Place]) -> dict[Place, float]:
    """The cumulative influence of each place, 0 to 1, small for those that matter most; the output has none.

    Args:
        links: weights by writer and reader.
        starts: where counting starts. Where no output is among them, one is thought above these, which reads them
            alike.
    """
    graph = nx.DiGraph()
    for (writer, reader), weight in links.items():
        graph.add_edge(writer, reader, size=abs(weight))
    outputs = [place for place in starts if place[0] == OUTPUT]
    arriving: defaultdict[Place, float] = defaultdict(float)
    arriving.update(dict.fromkeys(outputs or starts, 1.0))
    for reader in reversed(list(nx.topological_sort(graph))):
        whole = graph.in_degree(reader, weight="size")
        for writer, _, size in graph.in_edges(reader, data="size"):
            arriving[writer] += arriving[reader] * size / whole if whole else 0.0
    order = sorted((place for place in graph if place[0] != OUTPUT), key=lambda place: (-arriving[place], place))
    total, running, found = sum(arriving[place] for place in order), 0.0, {}
    for place in order:
        running += arriving[place]
        found[place] = min(1.0, running / total) if total else 1.0
    return found
