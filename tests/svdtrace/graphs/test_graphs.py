"""Parts, communities and differences of graphs, worked out by hand or against loops over their definitions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from statistics import fmean

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from made_up_trace import InParts, made_up_trace

from svdtrace.errors import SettingError
from svdtrace.graphs.communities import communities, marked
from svdtrace.graphs.difference import difference
from svdtrace.graphs.filters import GraphFilter, kept
from svdtrace.graphs.names import NodeName, is_tie, node_name, token_role
from svdtrace.results import circuit_graph

TRACE = made_up_trace()


def circuit(*edges: tuple[str, str, str, float, int]) -> nx.MultiDiGraph:
    """A graph of (writer, reader, side, weight, prompts), each edge met once a prompt."""
    made = nx.MultiDiGraph()
    for writer, reader, side, weight, prompts in edges:
        made.add_edge(writer, reader, key=side, side=side, weight=weight, prompts=prompts, total=weight * prompts)
    return made


SOME = circuit(
    ("0.1@end", "2.3@end", "dest", 3.0, 4),
    ("1.0@IO", "2.3@end", "src", -5.0, 1),
    ("2.3@end", "3.0@end", "dest", 1.0, 9),
    ("mlp.1@end", "3.0@end", "dest", 2.0, 2),
)
FIRINGS = {"2.3": 7, "3.0": 2}


def edges_of(part: nx.DiGraph) -> set[tuple[str, str]]:
    return {(edge[0].partition("@")[0], edge[1].partition("@")[0]) for edge in part.edges}


def test_names_of_both_forms():
    assert node_name("(10, 0, 'S1+1')") == node_name("10.0@S1+1") == NodeName("10.0", 10, "S1+1")
    assert node_name("(3, 11)") == node_name("3.11") == NodeName("3.11", 3, None)
    assert (node_name("mlp.3").layer, node_name("embed").layer) == (3, -1)
    # A role may look like anything.
    assert node_name("1.2@a@b").role == "a@b"
    assert [is_tie(name) for name in ("(3, 1, 'end')", "(3, 1)", "3.1@end")] == [True, False, False]
    assert token_role("3.1@IO", "4.0@end") == token_role("(3, 1)", "(4, 0, 'IO')") == "IO"


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (GraphFilter(), {("0.1", "2.3"), ("1.0", "2.3"), ("2.3", "3.0"), ("mlp.1", "3.0")}),
        # By size: a strong edge that inhibits is strong.
        (GraphFilter(weight_min=3.0), {("0.1", "2.3"), ("1.0", "2.3")}),
        (GraphFilter(prompts_min=4), {("0.1", "2.3"), ("2.3", "3.0")}),
        (GraphFilter(roles="IO,S2"), {("1.0", "2.3")}),
        (GraphFilter(layer_min=1), {("1.0", "2.3"), ("2.3", "3.0"), ("mlp.1", "3.0")}),
        (GraphFilter(firings_min=2), {("2.3", "3.0")}),
        (GraphFilter(firings_min=3), set()),
        (GraphFilter(prompts_min=4, weight_min=2.0), {("0.1", "2.3")}),
    ],
)
def test_what_a_rule_keeps(rule: GraphFilter, left: set[tuple[str, str]]):
    part = kept(SOME, rule, FIRINGS)
    assert edges_of(part) == left
    assert edges_of(SOME) == edges_of(kept(SOME, GraphFilter(), {})), "the graph itself stays as it is"
    for name in part:
        assert node_name(name).layer >= rule.layer_min
        assert FIRINGS.get(node_name(name).writer, 0) >= rule.firings_min
    # What lost all of its edges goes. A role is that of the token at which the writer wrote.
    if rule == GraphFilter(roles="IO,S2"):
        assert set(part) == {"1.0@IO", "2.3@end"}


def test_one_side_may_go_and_the_output_stays():
    """Catches both sides removed for one, and the output taken for a head that never fired."""
    two = circuit(
        ("0.1@end", "2.3@end", "dest", 3.0, 4),
        ("0.1@end", "2.3@end", "src", 0.5, 4),
        ("2.3@end", "output", "output", 9.0, 4),
    )
    part = kept(two, GraphFilter(weight_min=1.0, layer_min=1, firings_min=1, roles="end"), {"2.3": 5, "0.1": 1})
    assert set(part.edges) == {("2.3@end", "output", "output")}
    assert set(kept(two, GraphFilter(weight_min=1.0), {}).edges) == set(two.edges) - {("0.1@end", "2.3@end", "src")}
    assert communities(two).members == (("0.1", "2.3"),)
    assert "community" not in marked(two, communities(two)).nodes["output"]


def test_ties_stay_as_long_as_something_leads_to_them():
    published = nx.DiGraph()
    for writer, reader, weight, count in (
        ("(0, 1)", "(2, 3, 'end')", 3.0, 4),
        ("(2, 3, 'end')", "(2, 3)", 2000.0, 4),
        ("(1, 0)", "(2, 3, 'IO')", 1.0, 9),
        ("(2, 3, 'IO')", "(2, 3)", 2000.0, 9),
    ):
        published.add_edge(writer, reader, weight=weight, count=count)
    part = kept(published, GraphFilter(weight_min=2.0), {})
    assert set(part.edges) == {("(0, 1)", "(2, 3, 'end')"), ("(2, 3, 'end')", "(2, 3)")}
    assert set(kept(published, GraphFilter(prompts_min=5), {})) == {"(1, 0)", "(2, 3, 'IO')", "(2, 3)"}


def test_stability_is_asked_for_only_where_it_is():
    with pytest.raises(SettingError, match="no edge of this trace has a stability"):
        kept(SOME, GraphFilter(stability_min=0.5), {})
    judged = SOME.copy()
    stability = {("0.1@end", "2.3@end", "dest"): 0.9, ("2.3@end", "3.0@end", "dest"): 0.4}
    nx.set_edge_attributes(judged, stability, "stability")
    assert edges_of(kept(judged, GraphFilter(stability_min=0.5), {})) == {("0.1", "2.3")}


def test_the_published_top_layers(shared):
    published = nx.read_graphml(shared / "paper" / "graph.graphml")
    top = nx.read_graphml(shared / "paper" / "graph-toplayers.graphml")
    firings = {node_name(name).writer: each for name, each in published.nodes(data="nfiring")}
    part = kept(published, GraphFilter(firings_min=66, layer_min=7), firings)
    assert set(part) == set(top)
    assert set(part.edges) == set(top.edges)


def test_heads_and_stability_are_means_over_rows():
    rng = np.random.default_rng(0)
    rows = TRACE.edges.append_column("stability", pa.array(rng.uniform(size=TRACE.edges.num_rows), pa.float32()))
    with_rows = replace(TRACE, edges=rows)
    found = circuit_graph.heads([with_rows])
    groups = defaultdict(list)
    for row in rows.to_pylist():
        groups[row["writer"], f"{row['layer']}.{row['head']}", row["side"]].append(row)
    assert set(found.edges) == set(groups)
    for ends, members in groups.items():
        each = found.edges[ends]
        assert each["side"] == ends[2]
        assert "reads" not in each
        assert each["prompts"] == len({row["prompt"] for row in members})
        # Sums of at most some hundred float64 terms.
        assert each["total"] == pytest.approx(sum(row["weight"] for row in members), rel=1e-13)
        for name in ("weight", "share", "stability"):
            assert each[name] == pytest.approx(fmean(row[name] for row in members), rel=1e-13)
    assert all("stability" in each for *_, each in circuit_graph.ours([with_rows]).edges(data=True))
    assert not any("stability" in each for *_, each in circuit_graph.ours([TRACE]).edges(data=True))


@pytest.mark.parametrize("size", [1, 5])
def test_a_graph_from_parts_is_that_of_the_whole_to_the_last_bit(size: int):
    parts = InParts(TRACE, size)
    for count in (circuit_graph.ours, circuit_graph.heads):
        whole, cut = count(TRACE.parts()), count(parts.parts())
        assert list(whole.edges(keys=True, data=True)) == list(cut.edges(keys=True, data=True))
        assert list(whole.nodes(data=True)) == list(cut.nodes(data=True))


def cliques(at: str) -> nx.MultiDiGraph:
    """Two groups of heads that talk among themselves, and one weak edge between the groups."""
    pairs = [(layer, reader) for layer in range(3) for reader in range(layer + 1, 4)]
    # What one head sends another is the sum of both sides.
    sides = (("dest", 0.5), ("src", 1.5))
    low = [(f"{one}.0{at}", f"{two}.0{at}", side, share, 3) for one, two in pairs for side, share in sides]
    high = [(f"{one}.1{at}", f"{two}.1{at}", "dest", 5.0, 3) for one, two in pairs]
    return circuit(*low, *high, (f"0.0{at}", f"3.1{at}", "src", 0.1, 1), (f"0.1{at}", f"3.0{at}", "src", -9.0, 9))


@pytest.mark.parametrize("at", ["@end", ""])
def test_communities_of_heads(at: str):
    found = communities(cliques(at))
    # The heavier one first; a negative weight, however large, ties nothing.
    assert found.members == (("0.1", "1.1", "2.1", "3.1"), ("0.0", "1.0", "2.0", "3.0"))
    within, between = 6 * (2 + 5) * 3, 0.1
    whole = within + between
    high, low = 2 * 90 + between, 2 * 36 + between
    expected = within / whole - (high / (2 * whole)) ** 2 - (low / (2 * whole)) ** 2
    assert found.modularity == pytest.approx(expected, rel=1e-12)
    numbers = marked(cliques(at), found).nodes(data="community")
    assert {number for name, number in numbers if node_name(name).writer.endswith(".1")} == {1}
    assert {number for name, number in numbers if node_name(name).writer.endswith(".0")} == {2}


def test_a_graph_without_weight_has_each_head_alone():
    assert communities(circuit(("0.1@end", "2.0@end", "dest", -1.0, 1))).members == (("0.1",), ("2.0",))
    assert communities(nx.DiGraph()).members == ()


def test_differences_are_per_prompt():
    other = circuit(("0.1@end", "2.3@end", "dest", 1.0, 10), ("0.1@end", "2.3@end", "src", 4.0, 2))
    found = difference(SOME, other, 10, 20)
    assert found.edges["0.1@end", "2.3@end", "dest"] == {
        "side": "dest",
        "here": 12.0 / 10,
        "there": 10.0 / 20,
        "weight": pytest.approx(0.7),
        "total": pytest.approx(0.7),
        "prompts": 10,
        "prompts_here": 4,
        "prompts_there": 10,
    }
    assert found.edges["0.1@end", "2.3@end", "src"]["weight"] == -8.0 / 20
    assert set(found.edges) == set(SOME.edges) | set(other.edges)
    same = difference(SOME, SOME, 7, 7)
    assert all(each["weight"] == 0 for *_, each in same.edges(data=True))
    back = difference(other, SOME, 20, 10)
    assert {ends: -back.edges[ends]["weight"] for ends in back.edges} == {
        ends: found.edges[ends]["weight"] for ends in found.edges
    }
