"""The published counting, worked out by hand on firings made by hand (METHOD.md, section 8)."""

from __future__ import annotations

import networkx as nx
import pyarrow as pa
import pytest

from svdtrace.graphs.paper import HEAD_TIE, PromptFirings, Step, paper_graph, prompt_firings
from svdtrace.prompts import Prompt
from svdtrace.tracing import tables
from svdtrace.tracing.roots import Root

LABELS = {1: "A", 2: "B", 5: "end"}
TOP, TOP_TOO = (4, 0, 5, 1), (4, 1, 5, 2)
"""Roots: head 4.0 from `end` to A, head 4.1 from `end` to B."""
MIDDLE, MIDDLE_TOO = (3, 0, 5, 2), (3, 0, 5, 1)
"""Head 3.0 fires from `end` twice, to B and to A."""


def step(writer: tuple[int, int], side: str, token: int, weight: float) -> Step:
    return Step(writer, side, token, weight)


def diamond(prompt: int, scale: float = 1.0, labels: dict[int, str] | None = None) -> PromptFirings:
    """Two roots that both hear 3.0 at `end`, which fires twice there, and both times hears 2.0 at `end`."""
    return PromptFirings(
        prompt=prompt,
        labels=LABELS if labels is None else labels,
        roots=[TOP, TOP_TOO],
        edges={
            TOP: [step((3, 0), "dest", 5, 2 * scale), step((1, 1), "src", 1, 3 * scale)],
            TOP_TOO: [step((3, 0), "dest", 5, 5 * scale)],
            MIDDLE: [step((2, 0), "dest", 5, 7 * scale)],
            MIDDLE_TOO: [step((2, 0), "dest", 5, 11 * scale)],
        },
        firings=[TOP, TOP_TOO, MIDDLE, MIDDLE_TOO],
    )


def edge(graph: nx.DiGraph, writer: tuple[int, int], target: tuple) -> dict:
    return graph.edges[str(writer), str(target)]


def test_a_first_prompt_counts_once() -> None:
    """Catches multiplicity in the prompt that an edge is met in first: two ways lead to 3.0, four to 2.0."""
    graph = paper_graph([diamond(7)], {})
    # Firings of 3.0 at `end` are met by source, A (1) before B (2): 11 comes before 7, and 7 adds nothing.
    assert edge(graph, (2, 0), (3, 0, "end")) == {
        "type": "d",
        "src_token": "A",
        "dest_token": "end",
        "prompt": 7,
        "weight": 11,
        "total": 11,
        "count": 1,
    }
    assert edge(graph, (3, 0), (4, 0, "end"))["count"] == 1
    assert edge(graph, (1, 1), (4, 0, "A")) == {
        "type": "s",
        "src_token": "A",
        "dest_token": "end",
        "prompt": 7,
        "weight": 3,
        "total": 3,
        "count": 1,
    }


def test_later_prompts_count_every_meeting() -> None:
    """Catches later prompts that count once too: there each of the four meetings adds its value and 1."""
    graph = paper_graph([diamond(0), diamond(1, scale=2.0), diamond(2)], {})
    found = edge(graph, (2, 0), (3, 0, "end"))
    # Each firing of 3.0 has two ways to it; prompt 1 adds 2·(22 + 14), prompt 2 adds 2·(11 + 7).
    assert found["count"] == 1 + 4 + 4
    assert found["total"] == 11 + 2 * (22 + 14) + 2 * (11 + 7)
    assert found["weight"] == pytest.approx(found["total"] / found["count"])
    assert (found["prompt"], found["src_token"]) == (0, "A")
    assert edge(graph, (3, 0), (4, 1, "end"))["total"] == 5 + 10 + 5


def test_the_first_meeting_is_remembered_for_good() -> None:
    """Catches attributes of the latest meeting, and multiplicity in a later prompt that meets an edge first."""
    first = PromptFirings(0, LABELS, [TOP], {TOP: [step((1, 1), "src", 1, 3.0)]}, [TOP])
    graph = paper_graph([first, diamond(1), diamond(2)], {})
    assert edge(graph, (1, 1), (4, 0, "A"))["prompt"] == 0
    found = edge(graph, (2, 0), (3, 0, "end"))
    assert (found["prompt"], found["count"], found["total"]) == (1, 1 + 4, 11 + 2 * (11 + 7))


def test_sources_go_before_destinations() -> None:
    """Catches destinations before sources: who is met first gives an edge its value and its type."""
    root, by_source, by_dest, itself = (4, 0, 5, 2), (3, 0, 2, 1), (3, 0, 5, 1), (2, 0, 1, 1)
    one = PromptFirings(
        prompt=0,
        labels={1: "A", 2: "B", 5: "B"},
        roots=[root],
        edges={
            root: [step((3, 0), "dest", 5, 1.0), step((3, 0), "src", 2, 2.0)],
            by_dest: [step((2, 1), "dest", 5, 9.0)],
            by_source: [step((2, 1), "dest", 2, 3.0), step((2, 0), "src", 1, 7.0)],
            itself: [step((1, 0), "dest", 1, 4.0), step((1, 0), "src", 1, 5.0)],
        },
        firings=[root, by_dest, by_source, itself],
    )
    graph = paper_graph([one], {})
    assert edge(graph, (3, 0), (4, 0, "B"))["weight"] == 2.0
    assert edge(graph, (2, 1), (3, 0, "B"))["weight"] == 3.0
    found = edge(graph, (1, 0), (2, 0, "A"))
    assert (found["weight"], found["type"], found["count"]) == (5.0, "s", 1)


def test_depth_decides_which_value_is_first() -> None:
    """Catches a walk in breadth: the second root's own edge comes after all that the first root reaches."""
    deep, shallow = (3, 0, 5, 1), (3, 0, 5, 2)
    first, second = (4, 0, 5, 1), (5, 0, 5, 1)
    one = PromptFirings(
        prompt=0,
        labels=LABELS,
        # The second root's edge into 3.0 leads to both of its firings; as roots go one by one, `deep` is met first.
        roots=[shallow, first, second],
        edges={
            shallow: [step((2, 1), "dest", 5, 1.0)],
            deep: [step((2, 1), "dest", 5, 8.0)],
            first: [step((3, 0), "dest", 5, 1.0)],
            second: [step((4, 0), "dest", 5, 1.0)],
        },
        firings=[deep, shallow, first, second],
    )
    assert edge(paper_graph([one], {}), (2, 1), (3, 0, "end"))["weight"] == 1.0
    one.roots = [second, shallow, first]
    assert edge(paper_graph([one], {}), (2, 1), (3, 0, "end"))["weight"] == 8.0


def test_a_token_without_a_role_is_passed_through() -> None:
    """Catches a walk that stops where an edge is dropped: what lies below still counts."""
    labels = {1: "A", 5: "end"}
    through = (3, 0, 2, 1)
    one = PromptFirings(
        prompt=0,
        labels=labels,
        roots=[TOP_TOO],
        edges={
            TOP_TOO: [step((3, 0), "src", 2, 2.0)],
            through: [step((1, 0), "src", 1, 4.0), step((1, 0), "dest", 2, 4.0)],
        },
        firings=[TOP_TOO, through],
    )
    graph = paper_graph([one], {})
    assert set(graph.edges) == {("(1, 0)", "(3, 0, 'A')"), ("(3, 0, 'A')", "(3, 0)")}
    # A position without a role stands for itself.
    assert edge(graph, (1, 0), (3, 0, "A"))["dest_token"] == 2


def test_ties_count_all_edges_into_their_role() -> None:
    """Catches ties that count once a prompt, or that take part in weights."""
    prompts = [diamond(0), diamond(1), diamond(2)]
    for each in prompts:
        each.edges[MIDDLE].append(step((1, 3), "dest", 5, 1.0))
    graph = paper_graph(prompts, {(3, 0): 12, (1, 3): 4})
    for role in ("(3, 0, 'end')", "(4, 0, 'end')", "(4, 0, 'A')", "(4, 1, 'end')"):
        (head,) = graph.successors(role)
        tie = graph.edges[role, head]
        assert head == role.rsplit(",", 1)[0] + ")"
        assert tie["count"] == sum(data["count"] for *_, data in graph.in_edges(role, data=True))
        assert tie["weight"] == HEAD_TIE
    tie = graph.edges["(3, 0, 'end')", "(3, 0)"]
    assert (tie["type"], tie["src_token"], tie["dest_token"], tie["prompt"]) == ("d", "A", "end", 0)
    nfiring = dict(graph.nodes(data="nfiring"))
    assert (nfiring["(3, 0)"], nfiring["(3, 0, 'end')"], nfiring["(1, 3)"], nfiring["(2, 0)"]) == (12, 12, 4, 0)


def rows(schema: pa.Schema, places: list[dict]) -> pa.Table:
    return pa.Table.from_pylist([{name: place.get(name) for name in schema.names} for place in places], schema=schema)


def test_tables_become_firings_of_each_prompt() -> None:
    """Catches roots out of their order or named twice, and writers that are no heads."""
    asked = [Prompt(None, (1, 2, 3), ("",) * 3, {"A": 1, "B": 1, "end": 2}), Prompt(None, (1, 2), ("",) * 2, {"B": 1})]
    reader = {"prompt": 0, "layer": 3, "head": 0, "dest": 2, "src": 1}
    other = {**reader, "head": 1}
    firings = rows(tables.FIRINGS, [{**reader, "paths": 1}, {**other, "paths": 1}, {**other, "layer": 2, "paths": 2}])
    writer = {
        "writer": "2.1",
        "writer_layer": 2,
        "writer_head": 1,
        "token": 2,
        "side": "dest",
        "weight": 2.0,
        "paths": 1,
    }
    edges = rows(
        tables.EDGES,
        [
            {**reader, **writer},
            {**reader, **writer, "writer": "mlp.1", "writer_layer": 1, "writer_head": None},
            {**other, **writer},
        ],
    )
    table = tables.prompts_table(asked, [0.0, 0.0])
    roots = [Root(3, 1, "end", "*"), Root(3, 0, "end", "B"), Root(3, 1, "2", "*")]
    first, second = prompt_firings(table, firings, edges, roots)
    assert list(first.roots) == [(3, 1, 2, 1), (3, 0, 2, 1)]
    assert list(second.roots) == []
    assert first.labels == {1: "B", 2: "end"}
    assert first.edges[3, 0, 2, 1] == [Step((2, 1), "dest", 2, 2.0)]
    # Without roots by name, those are roots whose paths are more than what leads to them.
    unnamed, _ = prompt_firings(table, firings, edges, ())
    assert list(unnamed.roots) == [(3, 0, 2, 1), (3, 1, 2, 1)]
