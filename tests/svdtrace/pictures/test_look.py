"""Every picture is looked at, small and large; those of characterisations are in tests of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from made_up_results import made_up_results, with_evidence
from made_up_trace import MadeUpTrace, Size, made_up_trace
from matplotlib.figure import Figure
from picture_faults import faults

from svdtrace.faithfulness.figures import agreement_picture, curves_picture
from svdtrace.graphs.communities import communities, marked
from svdtrace.graphs.difference import difference
from svdtrace.graphs.figures import graph_picture
from svdtrace.interventions.figures import effects_picture
from svdtrace.nulls.figure import random_bases
from svdtrace.pictures.figures import circuit_picture, firings_per_head, slice_sizes
from svdtrace.results import circuit_graph

pytestmark = pytest.mark.whole


@pytest.fixture
def seen(monkeypatch) -> list[dict[str, list[Any]]]:
    """What is wrong with each figure, seen where it would be written."""
    found: list[dict[str, list[Any]]] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: found.append(faults(figure)))
    return found


TRACES: dict[str, Callable[[], MadeUpTrace]] = {
    "small": made_up_trace,
    "large": lambda: made_up_trace(Size(prompts=4, layers=12, heads=12, d_head=64, noise=40)),
    "without roles": lambda: made_up_trace(Size(prompts=10), roles=False),
    "long names": lambda: long_names(made_up_trace()),
}


LONG = " of the first sentence of two"


def long_names(trace: MadeUpTrace) -> MadeUpTrace:
    """The same with roles that are longer than their columns and writers of every kind."""

    def renamed(column: list[str]) -> pa.Array:
        return pa.array([name and f"{name}{LONG}" for name in column])

    others = {"0.0": "attn_bias.0", "0.1": "mlp.0", "0.2": "embed", "0.3": "pos", "0.4": "const", "1.1": "attn_bias.1"}
    roles = [[(f"{name}{LONG}", place) for name, place in each] for each in trace.prompts["roles"].to_pylist()]
    prompts = trace.prompts.set_column(
        trace.prompts.column_names.index("roles"), "roles", pa.array(roles, trace.prompts.schema.field("roles").type)
    )
    edges = trace.edges
    for name in ("role", "src_role", "dest_role"):
        if name in edges.column_names:
            edges = edges.set_column(edges.column_names.index(name), name, renamed(edges[name].to_pylist()))
    writers = pa.array([others.get(each, each) for each in edges["writer"].to_pylist()])
    edges = edges.set_column(edges.column_names.index("writer"), "writer", writers)
    firings = trace.firings
    for name in ("src_role", "dest_role"):
        firings = firings.set_column(firings.column_names.index(name), name, renamed(firings[name].to_pylist()))
    return MadeUpTrace(prompts, firings, edges, trace.manifest)


@pytest.mark.parametrize("name", TRACES)
def test_pictures_of_a_trace(name, seen):
    trace = TRACES[name]()
    for strongest in (1, 100):
        circuit_picture(trace, "circuit.svg", strongest)
    firings_per_head(trace, "heads.svg")
    slice_sizes(trace, "sizes.svg")
    slice_sizes(trace, "sizes.svg", "4.3")
    assert seen == [{}] * 5


@pytest.mark.parametrize(
    "name",
    ["small", *(pytest.param(name, marks=pytest.mark.full) for name in ("large", "without roles", "long names"))],
)
def test_pictures_of_a_graph(name, seen):
    trace = TRACES[name]()
    ours, heads = circuit_graph.ours([trace]), circuit_graph.heads([trace])
    other = circuit_graph.ours([made_up_trace(seed=3)])
    for graph in (ours, heads, *(marked(each, communities(each)) for each in (ours, heads))):
        for strongest in (3, 100):
            graph_picture(graph, "graph.svg", strongest=strongest)
    graph_picture(difference(ours, other, 12, 12), "difference.svg")
    assert seen == [{}] * 9


def test_pictures_of_evidence(seen):
    tables = {result.manifest["command"]: result for result in made_up_results()}
    tested = with_evidence(made_up_trace())
    heads = {f"2.{head}": {"mean_slice": 2.0 + head, "random_mean_slice": 6.0 + head} for head in range(4)}
    tested.manifest["chance"]["bases"]["heads"] = heads
    random_bases(tested, "bases.svg")
    effects_picture(tables["intervene"].tables["summary"], "effects.svg")
    curves_picture(tables["circuit"].tables, "curves.svg")
    agreement_picture(tables["circuit"].tables, tables["circuit"].manifest, "agreement.svg")
    assert seen == [{}] * 4
