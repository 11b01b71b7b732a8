"""Attribution graphs: what circuit-tracer's model and Neuronpedia's schema ask for, and what the viewer relies on."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_trace import MadeUpTrace, made_up_trace

from svdtrace.errors import OutputError
from svdtrace.graphs import attribution
from svdtrace.graphs.attribution_names import NodeNames
from svdtrace.tracing import tables

TRACE = made_up_trace()
PROMPT = 3

# What apps/webapp/app/api/graph/graph-schema.json of hijohnnylin/neuronpedia (MIT; as of commit b8efe84) asks of each
# field, in our words: the types that it may have, `?` where it may be absent. Of `qk_tracing_results` the README of
# apps/graph and the types that the viewer declares in apps/webapp/app/[modelId]/graph/graph-types.ts say the form.
NUMBER, NULL = (int, float), type(None)
SCHEMA: dict[str, Any] = {
    "metadata": {
        "slug": str,
        "scan": str,
        "prompt_tokens": [str],
        "prompt": str,
        "node_threshold?": NUMBER,
        "schema_version?": (int, NULL),
        "feature_details?": {},
        "info?": {"generator?": {"name?": str, "version?": str}},
        "generation_settings?": {},
        "pruning_settings?": {},
    },
    "qParams": {
        "pinnedIds?": [str],
        "supernodes?": [[str]],
        "linkType?": str,
        "clickedId?": str,
        "sg_pos?": str,
    },
    "nodes": [
        {
            "node_id": str,
            "feature": (int, NULL),
            "layer": (str, int),
            "ctx_idx": int,
            "feature_type": str,
            "jsNodeId": str,
            "clerp": str,
            "token_prob?": NUMBER,
            "is_target_logit?": bool,
            "influence?": (*NUMBER, NULL),
            "activation?": (*NUMBER, NULL),
            "qk_tracing_results?": {
                "pair_wise_contributors": [(str, str, NUMBER)],
                "top_q_marginal_contributors": [(str, NUMBER)],
                "top_k_marginal_contributors": [(str, NUMBER)],
            },
        }
    ],
    "links": [{"source": str, "target": str, "weight": NUMBER}],
}


def check(held: Any, asked: Any, where: str = "graph") -> None:
    """Hold JSON against what is asked: a type or several, a list of one kind, a list of fixed length, or fields."""
    if isinstance(asked, dict):
        assert isinstance(held, dict), where
        for name, kind in asked.items():
            field = name.removesuffix("?")
            assert field in held or name.endswith("?"), f"{where} lacks {field}"
            if field in held:
                check(held[field], kind, f"{where}.{field}")
    elif isinstance(asked, list):
        assert isinstance(held, list), where
        for place, each in enumerate(held):
            check(each, asked[0], f"{where}[{place}]")
    elif isinstance(asked, tuple) and isinstance(held, list):
        assert len(held) == len(asked), where
        for each, kind in zip(held, asked, strict=True):
            check(each, kind, where)
    else:
        kinds = asked if isinstance(asked, tuple) else (asked,)
        assert isinstance(held, kinds), f"{where} is {held!r}"
        assert not isinstance(held, bool) or bool in kinds, where


def manifest() -> dict[str, Any]:
    """A made-up trace's manifest with the shape where a trace has it."""
    model = TRACE.manifest["model"]
    return TRACE.manifest | {"model": model | model["shape"]}


def made(trace: MadeUpTrace = TRACE, prompt: int = PROMPT, **limits: int) -> dict[str, Any]:
    return attribution.attribution_graph(trace.prompts, trace.edges, manifest(), prompt, **limits)


def of_output() -> MadeUpTrace:
    """The trace, prompt 3 of which was traced from the output, by heads 4.3 and 0.1."""
    rows = TRACE.prompts.to_pylist()
    rows[PROMPT] |= {
        "root_effects": [("0.1", 0.5), ("4.3", 2.0)],
        "target": rows[PROMPT]["answer"],
        "target_string": ' "Kate"',
        "target_probability": 0.25,
    }
    return replace(TRACE, prompts=pa.Table.from_pylist(rows, schema=tables.PROMPTS))


def test_it_has_the_form_that_the_viewer_validates(tmp_path: Path):
    attribution.write(made(), tmp_path / "graph.json")
    held = json.loads((tmp_path / "graph.json").read_text())
    assert held == made()
    assert held["nodes"]
    for each in (held, made(of_output())):
        check(each, SCHEMA)
    about = TRACE.prompts.to_pylist()[PROMPT]
    assert held["metadata"]["prompt_tokens"] == about["strings"]
    assert held["metadata"]["prompt"] == "".join(about["strings"])
    assert held["metadata"]["schema_version"] == 1
    with pytest.raises(AssertionError, match=r"graph\.nodes\[0\] lacks clerp"):
        check({**held, "nodes": [{k: v for k, v in held["nodes"][0].items() if k != "clerp"}]}, SCHEMA)


WRITERS = ("0.0", "0.3", "2.1", "2.3", "mlp.0", "mlp.2", "attn_bias.0", "attn_bias.2", "embed", "pos", "const")


@given(
    tokens=st.lists(st.integers(0, 60), min_size=1, max_size=8),
    places=st.sets(st.tuples(st.sampled_from(WRITERS), st.integers(0, 7)), max_size=40),
    target=st.integers(0, 60),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_no_two_nodes_share_a_name(tokens: list[int], places: set[tuple[str, int]], target: int):
    """Catches a token's id that looks like a writer's index, and positions that are left out."""
    names = NodeNames(tokens, n_heads=4, n_layers=3, target=target)
    places = {(writer, token % len(tokens)) for writer, token in places} | {("output", len(tokens) - 1)}
    ids, pages = {names.node(place) for place in places}, {names.page(place) for place in places}
    assert len(ids) == len(pages) == len(places)
    assert ids.isdisjoint(pages)
    assert len({(names.feature(place), place[1]) for place in places}) == len(places)
    # A feature is the same at every token: one for each writer, and for each token that is embedded.
    written = {(writer, tokens[token] if writer == "embed" else None): None for writer, token in places}
    assert len({names.feature(place) for place in places}) == len(written)


@pytest.mark.parametrize(
    ("hub_id", "scan"),
    [("gpt2", "gpt2-small"), ("openai-community/gpt2", "gpt2-small"), ("a/b", "a/b"), (None, None)],
)
def test_a_model_is_called_what_the_user_called_it(hub_id: str | None, scan: str | None):
    """Catches a name that is guessed from the shape, under which the viewer shows another model's features."""
    told = manifest() | {"model": manifest()["model"] | {"n_layers": 12, "n_heads": 12, "hub_id": hub_id}}
    held = attribution.attribution_graph(TRACE.prompts, TRACE.edges, told, PROMPT)
    assert held["metadata"]["scan"] == (scan or "gpt2-12-layers-12-heads")


def test_the_output_is_a_target_logit():
    held = made(of_output())
    (output,) = (node for node in held["nodes"] if node["is_target_logit"])
    assert (output["feature_type"], output["token_prob"], output["ctx_idx"]) == ("logit", 0.25, 14)
    about = TRACE.prompts.to_pylist()[PROMPT]
    assert output["node_id"] == f"5_{about['answer']}_14"
    # The viewer reads a logit's token from between double quotes, and its probability from after `(p=`.
    other = about["strings"][about["tokens"].index(about["distractor"])]
    assert output["clerp"] == f"Output \" 'Kate'\" (p=0.250) over {other}"
    into = [(link["source"], link["weight"]) for link in held["links"] if link["target"] == output["node_id"]]
    assert into == [("4_3_14", 2.0), ("0_1_14", 0.5)]
    assert held["qParams"]["pinnedIds"] == [output["node_id"], "4_3_14", "0_1_14"]
    assert output["influence"] is None
    few = made(of_output(), nodes_max=3, links_max=2)
    assert {node["node_id"] for node in few["nodes"]} == {output["node_id"], "4_3_14", "0_1_14"}


def test_influence_is_cumulative_over_all_ways():
    """Catches influence that is not passed on, or that is not shared among a reader's writers by size."""
    held = made(of_output())
    ids = [node["node_id"] for node in held["nodes"]]
    A = np.zeros((len(ids), len(ids)))
    for link in held["links"]:
        A[ids.index(link["target"]), ids.index(link["source"])] = abs(link["weight"])
    A /= np.maximum(A.sum(axis=1, keepdims=True), 1e-300)
    start = np.asarray([float(node["is_target_logit"]) for node in held["nodes"]])
    # Layers rise, so that A's powers end.
    raw = sum(start @ np.linalg.matrix_power(A, power) for power in range(1, 7))
    for node, own in zip(held["nodes"], raw, strict=True):
        if not node["is_target_logit"]:
            # Float64 sums of at most some hundred terms; equal ones are in either order.
            above, with_equals = raw[raw > own + 1e-12].sum() / raw.sum(), raw[raw >= own - 1e-12].sum() / raw.sum()
            assert above - 1e-9 <= node["influence"] <= with_equals + 1e-9
    assert min(node["influence"] for node in held["nodes"] if not node["is_target_logit"]) < 0.5


def test_heads_say_who_is_read_on_which_side():
    held = made()
    own: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: {"dest": {}, "src": {}})
    for row in TRACE.edges.to_pylist():
        if row["prompt"] == PROMPT:
            writer = f"{row['writer_layer']}_{row['writer_head']}_{row['token']}"
            side = own[f"{row['layer']}_{row['head']}_{row['dest']}"][row["side"]]
            side[writer] = side.get(writer, 0.0) + row["weight"]
    heard = {node["node_id"]: node["qk_tracing_results"] for node in held["nodes"] if "qk_tracing_results" in node}
    assert heard.keys() == own.keys()
    for name, results in heard.items():
        assert results["pair_wise_contributors"] == []
        for side, key in (("dest", "top_q_marginal_contributors"), ("src", "top_k_marginal_contributors")):
            found, expected = dict(results[key]), own[name][side]
            assert found == pytest.approx({writer: expected[writer] for writer in found}, rel=1e-13)
            assert len(found) == min(len(expected), attribution.CONTRIBUTORS)
            sizes = [abs(weight) for weight in found.values()]
            assert sizes == sorted(sizes, reverse=True)


def test_groups_and_pins_are_nodes_of_the_file():
    told = manifest() | {"config": {**manifest()["config"], "roots": "all"}}
    held = attribution.attribution_graph(TRACE.prompts, TRACE.edges, told, PROMPT)
    ids = [node["node_id"] for node in held["nodes"]]
    pinned, groups = held["qParams"]["pinnedIds"], held["qParams"]["supernodes"]
    # With roots `all`, those that nothing is read from further up.
    sources = {link["source"] for link in held["links"]}
    assert set(pinned) == {link["target"] for link in held["links"]} - sources
    assert groups
    members = [each for _, *own in groups for each in own]
    assert len(set(members)) == len(members)
    assert set(members) <= set(ids)
    assert all(set(own) & set(pinned) for _, *own in groups)
    assert not {label for label, *_ in groups} & set(ids)


def test_named_roots_are_pinned():
    """Catches every reader taken for a root: one that paths lead to is none."""
    rows = [row for row in TRACE.edges.to_pylist() if row["prompt"] == PROMPT]
    top = max(row["layer"] for row in rows)
    for row in rows:
        row["paths"] = 1 if row["layer"] == top else 0
    table = pa.Table.from_pylist(rows, schema=tables.EDGES)
    told = manifest() | {"config": {**manifest()["config"], "roots": "4.3@end:*"}}
    held = attribution.attribution_graph(TRACE.prompts, table, told, PROMPT)
    assert set(held["qParams"]["pinnedIds"]) == {f"{top}_{row['head']}_{row['dest']}" for row in rows if row["paths"]}


def test_the_viewer_can_place_every_node():
    held = made()
    ids = {node["node_id"] for node in held["nodes"]}
    assert len(ids) == len(held["nodes"])
    assert {link[end] for link in held["links"] for end in ("source", "target")} == ids
    # The viewer knows a node by these three, and a feature's index by undoing Cantor's pairing.
    assert len({(node["layer"], node["feature"], node["ctx_idx"]) for node in held["nodes"]}) == len(ids)
    for node in held["nodes"]:
        layer, index, token = map(int, node["node_id"].split("_"))
        both = layer + index
        assert node["feature"] == both * (both + 1) // 2 + index
        assert (node["layer"], node["ctx_idx"]) == (str(layer), token)
        assert node["clerp"].startswith(f"{layer}.{index}")
    layer_of = {node["node_id"]: int(node["layer"]) for node in held["nodes"]}
    assert all(layer_of[link["source"]] < layer_of[link["target"]] for link in held["links"])


def test_links_are_the_prompts_edges_summed_over_firings():
    expected = defaultdict(float)
    for row in TRACE.edges.to_pylist():
        if row["prompt"] == PROMPT:
            writer = f"{row['writer_layer']}_{row['writer_head']}_{row['token']}"
            expected[writer, f"{row['layer']}_{row['head']}_{row['dest']}"] += row["weight"]
    found = {(link["source"], link["target"]): link["weight"] for link in made()["links"]}
    assert found == pytest.approx(dict(expected), rel=1e-13)


def test_a_head_says_what_it_reads():
    by_place = {node["node_id"]: node["clerp"] for node in made()["nodes"]}
    # The circuit's name mover, 4.3, fires from `end`, position 14, to IO.
    assert "IO" in by_place["4_3_14"].partition(" reads ")[2].split(", ")


def test_a_viewer_gets_the_strongest_part():
    whole = made()
    strength = defaultdict(float)
    for link in whole["links"]:
        for end in ("source", "target"):
            strength[link[end]] += abs(link["weight"])
    held = made(nodes_max=9, links_max=6)
    assert len(held["nodes"]) <= 9
    assert len(held["links"]) == 6
    best = set(sorted(strength, key=lambda name: -strength[name])[:9])
    assert {node["node_id"] for node in held["nodes"]} <= best
    weights = sorted(abs(link["weight"]) for link in whole["links"] if {link["source"], link["target"]} <= best)
    assert [abs(link["weight"]) for link in held["links"]] == pytest.approx(weights[::-1][:6])


def test_writers_that_are_no_heads_and_markup_in_roles():
    row = {"prompt": 0, "layer": 2, "head": 1, "dest": 2, "src": 1, "side": "src", "token": 1, "weight": 1.0}
    row |= {"paths": 1}
    writers = ("0.3", "mlp.1", "attn_bias.1", "embed", "pos", "const")
    edges = pa.Table.from_pylist(
        [{name: {**row, "writer": writer}.get(name) for name in tables.EDGES.names} for writer in writers],
        schema=tables.EDGES,
    )
    prompt = {"prompt": 0, "id": "a", "tokens": [7, 8, 9], "strings": ["a", "b", "c"], "roles": [("<b>", 1)]}
    prompts = pa.Table.from_pylist([{name: prompt.get(name) for name in tables.PROMPTS.names}], schema=tables.PROMPTS)
    nodes = attribution.attribution_graph(prompts, edges, manifest(), 0)["nodes"]
    by_name = {node["clerp"].partition(" ")[0]: node for node in nodes}
    assert set(by_name) == {*writers, "2.1"}
    assert by_name["2.1"]["clerp"] == "2.1 reads &lt;b&gt;"
    assert {name: by_name[name]["layer"] for name in writers} == dict(
        zip(writers, ["0", "1", "1", "E", "E", "E"], strict=True)
    )
    # As circuit-tracer names the embedding of a token.
    assert (by_name["embed"]["node_id"], by_name["embed"]["feature_type"]) == ("E_8_1", "embedding")
    assert len({(node["layer"], node["feature"], node["ctx_idx"]) for node in nodes}) == len(nodes)
    with pytest.raises(OutputError, match="prompt 1 has no edges to show"):
        attribution.attribution_graph(prompts, edges, manifest(), 1)


@pytest.mark.parametrize(
    ("strings", "text", "expected"),
    [
        (["Hi ", r"\xf0\x9f", r"\xa4\x97"], None, "Hi 🤗"),
        (["mary", "##s", "and"], "Marys and", "Marys and"),
        (["464", "2068"], None, "464 2068"),
    ],
)
def test_the_prompt_untokenized(strings: list[str], text: str | None, expected: str):
    row = {"prompt": 0, "writer": "0.1", "layer": 1, "head": 0, "dest": 1, "src": 0, "side": "src", "token": 0}
    edges = pa.Table.from_pylist(
        [{name: {**row, "weight": 1.0}.get(name) for name in tables.EDGES.names}], schema=tables.EDGES
    )
    prompt = {"prompt": 0, "tokens": list(range(len(strings))), "strings": strings, "roles": [], "text": text}
    prompts = pa.Table.from_pylist([{name: prompt.get(name) for name in tables.PROMPTS.names}], schema=tables.PROMPTS)
    assert attribution.attribution_graph(prompts, edges, manifest(), 0)["metadata"]["prompt"] == expected
