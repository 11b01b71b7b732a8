"""Published beside measured, on a small model of which numbers are made up as if they had been published.

The numbers come from loops over a trace's rows and over interventions, in the form of `paper.json`.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_model import jax_model, random_tokens, small_model

import gpt2jax
import svdtrace
from svdtrace.errors import EdgeError
from svdtrace.graphs.names import in_our_form, is_tie
from svdtrace.graphs.paper import published_form
from svdtrace.interventions.intervening import intervene
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.prompts.prompt import Prompt
from svdtrace.reproduction import protocol
from svdtrace.reproduction.asked import asked_by, published_values
from svdtrace.reproduction.comparison import Expected, Measured, compared, rows_table
from svdtrace.reproduction.edge_sets import edges_named, label, name_of
from svdtrace.reproduction.effect_numbers import effect_numbers
from svdtrace.reproduction.firing_numbers import Firings
from svdtrace.reproduction.nearness import Nearness, find_near
from svdtrace.reproduction.protocol import Reproduction, own_sets, reproduce
from svdtrace.reproduction.published import Published, read_published
from svdtrace.tracing.trace import prepare_cached

pytestmark = pytest.mark.whole

ROLES = {"IO": 2, "S1": 3, "S2": 5, "end": 7}
SETTINGS = {"threshold": 0.3, "tau": 1.0, "coverage": 0.7, "skip_first": True}
CONFIG = svdtrace.TraceConfig(method="paper", roots="all", **SETTINGS)
PARAMS, SHAPE = small_model(3, n_layers=3, sharpness=2.0)
MODEL = jax_model(PARAMS, SHAPE)
PROMPTS = [
    Prompt(f"p{place}", tuple(map(int, tokens)), ("",) * 9, ROLES, answer=1, distractor=2)
    for place, tokens in enumerate(random_tokens(24, 9, SHAPE, seed=1))
]


@pytest.fixture(scope="module")
def whole() -> svdtrace.Trace:
    return svdtrace.trace(MODEL, PROMPTS, CONFIG)


def most_frequent(rows: list[dict[str, Any]]) -> str:
    """A firing of layer 2 between two roles, by name, that is there in the most prompts."""
    role = {position: name for name, position in ROLES.items()}
    counts = Counter(
        f"{row['layer']}.{row['head']}@{role[row['dest']]}:{role[row['src']]}"
        for row in rows
        if row["layer"] == 2 and row["dest"] in role and row["src"] in role and row["dest"] != row["src"]
    )
    return counts.most_common(1)[0][0]


def at(rows: list[dict[str, Any]], pair: str) -> list[dict[str, Any]]:
    head, _, ends = pair.partition("@")
    dest, src = (ROLES[role] for role in ends.split(":"))
    return [row for row in rows if (f"{row['layer']}.{row['head']}", row["dest"], row["src"]) == (head, dest, src)]


@pytest.fixture(scope="module")
def made_up(whole: svdtrace.Trace, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """All that could be published of this model, found by loops."""
    rows = whole.firings.to_pylist()
    root = most_frequent(rows)
    own = at(rows, root)
    graph = published_form(whole, roots=root)
    edges = [edge for edge in graph.edges(data=True) if not is_tie(edge[0])]
    edges.sort(key=lambda edge: -edge[2]["total"])
    heads = Counter(f"{row['layer']}.{row['head']}" for row in rows)
    used = Counter(vector for row in own for vector in row["slice"])
    texts = [str([edges[0][:2]]), f"All incoming edges to {edges[0][1]}"]
    sets = {text: [name_of(graph, ends) for ends in edges_named(text, graph)] for text in texts}
    table = effects_of(sets)
    numbers = {
        "settings": SETTINGS | {"roots": root},
        "mean_logit_difference": fmean(row["logit_difference"] for row in whole.prompts.to_pylist()),
        "firings_threshold_only": {"ioi": by_threshold()},
        "firings_traced": {"counts": dict(heads) | {"0.1": 0, "2.2": heads["2.2"]}},
        "prompts_firing": {root: len({row["prompt"] for row in own})},
        "slice_members": {
            root: {
                "firings": len(own),
                "members": sum(len(row["slice"]) for row in own),
                "mean_size": fmean(len(row["slice"]) for row in own),
                "on_at_least_3_firings": [vector for vector in used if used[vector] >= 3],
            }
        },
        "task_vocabulary": len({token for prompt in PROMPTS for token in prompt.tokens[:8]}),
        "graph": {
            "nodes": len(graph),
            "communication_edges": len(edges),
            "toplayers": {"nodes": 0, "edges": 0},
            "strongest_by_total": [
                {"writer": in_our_form(writer), "reader": in_our_form(reader)}
                | {name: each[name] for name in ("weight", "count")}
                for writer, reader, each in edges[:5]
            ],
        },
        "interventions_multi_edge": means_of(table),
    }
    return Published(numbers, graph, pa.Table.from_pylist(table), tmp_path_factory.mktemp("none"), {"n_layers": 3})


def by_threshold() -> dict[str, int]:
    """Firings of some heads, whatever their score."""
    pattern = attention()[0]
    counts = Counter(
        f"{layer}.{head}"
        for layer, prompt, head, dest, src in np.ndindex(pattern.shape)
        if 1 <= src <= dest <= ROLES["end"] and pattern[layer, prompt, head, dest, src] >= 0.3
    )
    return {head: counts[head] for head in ("0.1", "1.0", "2.2")}


def attention() -> tuple[np.ndarray, np.ndarray]:
    """Pattern and scores of the plain forward pass, [layer prompt head dest src]."""
    tokens = np.asarray([prompt.tokens for prompt in PROMPTS])
    taps = ["blocks.*.attn.hook_pattern", "blocks.*.attn.hook_attn_scores"]
    seen = gpt2jax.forward(MODEL, tokens, taps=taps).taps
    return np.asarray(seen[taps[0]]), np.asarray(seen[taps[1]])


def effects_of(sets: dict[str, list[str]]) -> list[dict[str, Any]]:
    way = InterventionConfig(direction="ablate", method="paper")
    texts = {",".join(names): text for text, names in sets.items()}
    table = intervene(MODEL, PROMPTS, list(sets.values()), way, tracing=CONFIG).table
    return [{**row, "edges": texts[row["edges"]]} for row in table.to_pylist()]


def means_of(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table:
        if row["edited"]:
            groups.setdefault((row["edges"], row["where"]), []).append(row)
    return [
        {
            "edges": text,
            "where": where,
            "prompts": len(rows),
            "mean_change_logit_difference": fmean(
                row["logit_difference_after"] - row["logit_difference_before"] for row in rows
            ),
            "cosine": fmean(row["cosine"] for row in rows),
            "norm_ratio": fmean(row["norm_ratio"] for row in rows),
        }
        for (text, where), rows in groups.items()
    ]


def run(published: Published) -> Reproduction:
    return reproduce(MODEL, PROMPTS, published, find_roots=lambda trace: "")


@pytest.fixture(scope="module")
def done(made_up: Published) -> Reproduction:
    return run(made_up)


@pytest.mark.full
def test_other_prompts_are_not_held_against_what_was_published(made_up: Published):
    own = tuple(prompt.tokens for prompt in PROMPTS)
    assert replace(made_up, tokens=own).is_of(PROMPTS)
    assert not replace(made_up, tokens=own).is_of(PROMPTS[1:])
    other = run(replace(made_up, tokens=own[1:]))
    assert (other.shaped, other.applies) == (True, False)
    assert all(row.inside is None for row in other.rows)
    assert other.roots == made_up.numbers["settings"]["roots"]


@pytest.mark.whole
def test_what_was_published_of_it_is_found_again(done: Reproduction, made_up: Published):
    assert done.applies
    assert done.wanting == ()
    assert len(done.rows) > 50
    values = {(row.topic, row.name): row for row in done.rows}
    root = made_up.numbers["settings"]["roots"]
    assert values["slices", f"{root} members"].measured == made_up.numbers["slice_members"][root]["members"] > 20
    assert values["graph", "share of the published edges"].measured == 1
    assert values["graph", "share of other edges"].measured == 0
    within = [row for row in done.rows if row.name.endswith("prompts within tolerance")]
    assert len(within) == 4
    assert all(row.measured == row.published == len(PROMPTS) for row in within)
    changes = [row.measured for row in done.rows if row.topic == "global effect" and row.name.endswith("change")]
    assert max(map(abs, changes)) > 0.02


def shifted(numbers: dict[str, Any], *path: Any, by: float) -> dict[str, Any]:
    """The numbers with one of them moved."""
    numbers = copy.deepcopy(numbers)
    place = numbers
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] += by
    return numbers


def outside(done: Reproduction, numbers: dict[str, Any]) -> Counter[str]:
    """Topics of the rows that lie outside where the same measurements meet other published numbers."""
    own = published_values(numbers, len(PROMPTS))
    measured = {
        (row.topic, row.name): Measured(row.measured, row.tolerance - own[row.topic, row.name].tolerance)
        for row in done.rows
    }
    return Counter(row.topic for row in compared(own, measured) if not row.inside)


@pytest.mark.whole
def test_one_number_elsewhere_is_one_row_outside(made_up: Published, done: Reproduction):
    numbers = dict(made_up.numbers)
    root = numbers["settings"]["roots"]
    counts = [row for row in done.rows if row.topic in {"firings", "prompts firing", "slices"}]
    far = 1 + max(row.tolerance for row in counts)
    strongest = numbers["graph"]["strongest_by_total"][0]
    assert outside(done, numbers) == Counter()
    for topic, path, by in (
        ("prompts", ("mean_logit_difference",), 0.01 * abs(numbers["mean_logit_difference"])),
        ("prompts", ("task_vocabulary",), 1),
        ("firings", ("firings_traced", "counts", "2.2"), far),
        ("prompts firing", ("prompts_firing", root), far),
        ("slices", ("slice_members", root, "members"), far),
        ("graph", ("graph", "nodes"), len(made_up.graph)),
        ("strongest edges", ("graph", "strongest_by_total", 0, "weight"), 0.1 * strongest["weight"]),
        ("global effect", ("interventions_multi_edge", 0, "mean_change_logit_difference"), 5.0),
        ("global effect", ("interventions_multi_edge", 0, "cosine"), -0.5),
    ):
        assert outside(done, shifted(numbers, *path, by=by)) == Counter({topic: 1}), path


@pytest.mark.whole
def test_effects_are_compared_prompt_by_prompt(made_up: Published, done: Reproduction):
    firings = Firings(done.trace, Nearness(np.zeros((3, 3), int), frozenset(), np.zeros((3, 3), int)))
    sets = {each["edges"]: () for each in made_up.numbers["interventions_multi_edge"]}
    rows = made_up.interventions.to_pylist()
    first = rows[0]["edges"], rows[0]["where"]
    moved = 0
    for row in rows:
        if (row["edges"], row["where"]) == first and moved < 3:
            change = row["logit_difference_after"] - row["logit_difference_before"]
            # Two are moved by more than what is allowed, one by less.
            row["logit_difference_after"] += (1.5 if moved < 2 else 0.5) * max(0.02, 0.05 * abs(change))
            moved += 1
    found = effect_numbers(done.effects, sets, firings, pa.Table.from_pylist(rows))
    counts = [each.value for (_, name), each in found.items() if name.endswith("prompts within tolerance")]
    assert sorted(counts) == [len(PROMPTS) - 2] + [len(PROMPTS)] * 3


@pytest.mark.whole
def test_another_shape_is_measured_alone(made_up: Published, monkeypatch: pytest.MonkeyPatch):
    # Sets whose programs are compiled already; see the next test for a graph's own.
    texts = tuple(dict.fromkeys(each["edges"] for each in made_up.numbers["interventions_multi_edge"]))
    monkeypatch.setattr(protocol, "own_sets", lambda graph, roots: texts if roots else ())
    other = replace(made_up, shape={"n_layers": 12})
    root = made_up.numbers["settings"]["roots"]
    done = reproduce(MODEL, PROMPTS, other, find_roots=lambda trace: root)
    assert not done.applies
    assert done.wanting == ()
    assert all(row.published is None and row.inside is None for row in done.rows)
    topics = {row.topic for row in done.rows}
    assert {"firings", "prompts firing", "vectors", "graph", "strongest edges", "local effect"} <= topics
    assert set(done.graph.edges) == set(made_up.graph.edges)
    none = reproduce(MODEL, PROMPTS, other, find_roots=lambda trace: "")
    assert none.effects is None
    assert {row.topic for row in none.rows} == {"prompts", "firings", "graph"}
    assert rows_table(none.rows).num_rows == len(none.rows)


def test_the_graph_is_that_of_a_trace_from_the_roots(made_up: Published):
    """From a trace of all firings the same graph is counted as from a trace that starts at the roots."""
    traced = svdtrace.trace(MODEL, PROMPTS, replace(CONFIG, roots=made_up.numbers["settings"]["roots"]))
    found = published_form(traced)
    assert dict(found.nodes(data=True)) == dict(made_up.graph.nodes(data=True))
    assert {ends: found.edges[ends] for ends in found.edges} == {
        ends: made_up.graph.edges[ends] for ends in made_up.graph.edges
    }


def test_a_graph_suggests_its_strongest_edges():
    graph = nx.DiGraph()
    for place in range(10):
        graph.add_edge(f"(0, {place})", "(2, 3, 'end')", total=float(place))
    graph.add_edge("(1, 0)", "(2, 3, 'IO')", total=1.0)
    graph.add_edge("(1, 0)", "(2, 3, 'S1')", total=99.0)
    graph.add_edge("(1, 0)", "(2, 2, 'end')", total=5.0)
    for role in ("end", "IO", "S1"):
        graph.add_edge(f"(2, 3, '{role}')", "(2, 3)", total=2000.0)
    sets = [edges_named(text, graph) for text in own_sets(graph, "2.3@end:IO")]
    assert [[writer for writer, _ in each] for each in sets] == [
        ["(0, 9)"],
        ["(1, 0)"],
        [f"(0, {place})" for place in range(9, 1, -1)],
        [*(f"(0, {place})" for place in range(9, 1, -1)), "(1, 0)"],
    ]
    assert own_sets(graph, "") == ()


def test_pairs_near_the_threshold():
    """Against a loop over the forward pass' own pattern and score."""
    prepared = prepare_cached(MODEL, CONFIG)
    pattern, score = attention()
    near = 0.02
    places, counts = set(), np.zeros((3, 3), int)
    for layer, prompt, head, dest, src in np.ndindex(pattern.shape):
        if not 1 <= src <= dest <= ROLES["end"]:
            continue
        value = pattern[layer, prompt, head, dest, src]
        counts[layer, head] += value >= 0.3
        if abs(value - 0.3) <= near or (value >= 0.3 and abs(score[layer, prompt, head, dest, src]) <= near):
            places.add((prompt, layer, head, dest, src))
    found = find_near(prepared, PROMPTS, CONFIG, near)
    assert found.firings_by_threshold.tolist() == counts.tolist()
    assert found.places == places
    assert len(places) > 5


def test_the_border_of_a_tolerance():
    expected = {("a", "b"): Expected(10.0, 0.5), ("a", "c"): Expected(1.0)}
    (inside, missing) = compared(expected, {("a", "b"): Measured(11.5, 1.0)})
    assert (inside.inside, inside.tolerance) == (True, 1.5)
    assert (missing.inside, missing.measured, missing.note) == (False, None, "not measured")
    assert compared(expected, {("a", "b"): Measured(11.6, 1.0)})[0].inside is False
    assert compared({}, {("a", "b"): Measured(3.0)})[0].inside is None


def test_sets_of_edges_by_their_descriptions():
    graph = nx.DiGraph()
    for writer, reader, side, src, dest in (
        ("(0, 1)", "(2, 3, 'end')", "d", "IO", "end"),
        ("(1, 0)", "(2, 3, 'IO')", "s", "IO", "end"),
        ("(0, 1)", "(1, 0, 'S2')", "s", "S2", 6),
        ("(2, 3, 'end')", "(2, 3)", "d", "IO", "end"),
    ):
        graph.add_edge(writer, reader, type=side, src_token=src, dest_token=dest)
    both = "All incoming edges to (2, 3, 'end') + All incoming edges to (2, 3, 'IO')"
    names = [name_of(graph, ends) for ends in edges_named(both, graph)]
    assert names == ["0.1:2.3@end:IO/dest", "1.0:2.3@end:IO/src"]
    out = edges_named("All outgoing edges from (0, 1)", graph)
    # A token that has no role in the prompt of the first meeting is its position.
    assert [name_of(graph, ends) for ends in out] == ["0.1:2.3@end:IO/dest", "0.1:1.0@6:S2/src"]
    assert edges_named("[('(0, 1)', \"(2, 3, 'end')\")]", graph) == [("(0, 1)", "(2, 3, 'end')")]
    assert label(both) == "into 2.3@end + into 2.3@IO"
    assert label("[('(0, 1)', \"(2, 3, 'end')\")]") == "0.1 → 2.3@end"
    for text in ("All incoming edges to (5, 5, 'IO')", "[('(0, 0)', '(2, 3)')]", "some edges"):
        with pytest.raises(EdgeError):
            edges_named(text, graph)


def test_the_published_data_are_those_of_the_paper(shared: Path):
    published, folder = read_published(), shared / "paper"
    assert published.numbers == json.loads((folder / "paper.json").read_text())
    assert gzip.decompress(published.prompts.read_bytes()) == (folder / "ioi256.jsonl").read_bytes()
    original = nx.read_graphml(folder / "graph.graphml")
    assert dict(published.graph.nodes(data=True)) == dict(original.nodes(data=True))
    assert {ends: published.graph.edges[ends] for ends in published.graph.edges} == {
        ends: original.edges[ends] for ends in original.edges
    }
    names = {"A": "global", "B": "local"}
    rows = pq.read_table(folder / "interventions-multi-edge.parquet").to_pylist()
    effects = {
        (row["edges"], row["where"], row["prompt"]): (row["logit_difference_before"], row["logit_difference_after"])
        for row in published.interventions.to_pylist()
    }
    assert len(effects) == published.interventions.num_rows
    for row in rows:
        # A set that was run in several experiments is kept once; runs of one set differ in float32's last digits.
        found = effects[row["edges"], names[row["intervention_type"]], row["prompt_id"]]
        assert found == pytest.approx((row["logit_diff"], row["logit_diff_interv"]), abs=1e-4)


def test_every_published_set_is_one_of_the_published_graph():
    published = read_published()
    asked = asked_by(published.numbers)
    firing = {"9.9@end:IO", "9.6@end:IO", "10.0@end:IO", "8.6@end:S2", "7.9@end:S2"}
    for text in asked.sets:
        names = [name_of(published.graph, ends) for ends in edges_named(text, published.graph)]
        # All incoming edges belong to the firing that the prompts of the set are counted by.
        if text.startswith("All incoming"):
            assert {name.partition(":")[2].partition("/")[0] for name in names} <= firing
    assert len({label(text) for text in asked.sets}) == len(asked.sets) == 38
    # 86 means of 43 sets in two places, of which five sets are given twice.
    assert sum(topic.endswith("effect") for topic, _ in published_values(published.numbers, 256)) == 38 * 2 * 5
