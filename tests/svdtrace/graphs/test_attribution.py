"""Attribution graphs: what circuit-tracer's model and Neuronpedia's schema ask for, and what the viewer relies on."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from made_up_trace import made_up_trace

from svdtrace.errors import OutputError
from svdtrace.graphs import attribution
from svdtrace.tracing import tables

TRACE = made_up_trace()
PROMPT = 3

# apps/webapp/app/api/graph/graph-schema.json of hijohnnylin/neuronpedia: required fields and their types.
METADATA = {"slug": str, "scan": str, "prompt_tokens": list, "prompt": str}
NODE = {
    "node_id": str,
    "feature": int,
    "layer": str,
    "ctx_idx": int,
    "feature_type": str,
    "jsNodeId": str,
    "clerp": str,
}
LINK = {"source": str, "target": str, "weight": float}
Q_PARAMS = {"pinnedIds": list, "supernodes": list, "linkType": str, "clickedId": str, "sg_pos": str}


def manifest() -> dict[str, Any]:
    """A made-up trace's manifest with the shape where a trace has it."""
    model = TRACE.manifest["model"]
    return TRACE.manifest | {"model": model | model["shape"]}


def made(**limits: int) -> dict[str, Any]:
    return attribution.attribution_graph(TRACE.prompts, TRACE.edges, manifest(), PROMPT, **limits)


def has(held: dict[str, Any], types: dict[str, type]) -> bool:
    return all(type(held[name]) is kind for name, kind in types.items())


def test_it_has_the_form_that_the_viewer_validates(tmp_path: Path):
    attribution.write(made(), tmp_path / "graph.json")
    held = json.loads((tmp_path / "graph.json").read_text())
    assert held == made()
    assert has(held["metadata"], METADATA)
    assert has(held["qParams"], Q_PARAMS)
    assert held["nodes"]
    assert all(has(node, NODE) for node in held["nodes"])
    assert all(has(link, LINK) for link in held["links"])
    about = TRACE.prompts.to_pylist()[PROMPT]
    assert held["metadata"]["prompt_tokens"] == about["strings"]
    assert held["metadata"]["prompt"] == "".join(about["strings"])
    assert held["metadata"]["schema_version"] == 1


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
