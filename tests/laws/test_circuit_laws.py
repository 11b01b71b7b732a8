"""What holds of every graph of a trace: it has no cycle, and every walk goes up to what tracing started from."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given

from laws.examples import few, random_model, random_prompts, seeds
from svdtrace.config import TraceConfig
from svdtrace.prompts.edge_names import writer_layer
from svdtrace.results import circuit_graph
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.trace import Trace, trace_prepared


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(random_model(5), TraceConfig())


def root_nodes(trace: Trace) -> set[str]:
    """The nodes of the firings that more ways lead to than arrive from above."""
    arrived: dict[tuple, int] = {}
    for row in trace.edges.to_pylist():
        place = row["prompt"], row["writer"], row["token"]
        arrived[place] = arrived.get(place, 0) + row["paths"]
    return {
        f"{row['layer']}.{row['head']}@{row['dest_role'] or circuit_graph.OTHER}"
        for row in trace.firings.to_pylist()
        if row["paths"] > arrived.get((row["prompt"], f"{row['layer']}.{row['head']}", row["dest"]), 0)
    }


@few
@given(seed=seeds)
@pytest.mark.parametrize("roots", ["2.1@*:*,2.3@*:*", "logit"])
def test_every_walk_ends_at_a_root(prepared: Prepared, roots: str, seed: int) -> None:
    """Catches a cycle, an edge downwards, and writers that are nodes apart from the readers that they are."""
    trace = trace_prepared(prepared, random_prompts(seed), TraceConfig(roots=roots, writers="all", threshold=0.3))
    graph = trace.graph()
    assert graph.number_of_edges() > 0
    assert nx.is_directed_acyclic_graph(graph)
    height = {name: writer_layer(name.partition("@")[0]) for name in graph} | {"output": prepared.model.config.n_layers}
    assert all(height[writer] < height[reader] for writer, reader, _ in graph.edges)
    ends = {"output"} if roots == "logit" else root_nodes(trace)
    reaching = set().union(*(nx.ancestors(graph, end) | {end} for end in ends & set(graph)))
    assert reaching == set(graph)
