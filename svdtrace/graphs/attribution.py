"""One prompt's circuit as an attribution graph, the JSON that circuit-tracer writes and Neuronpedia's viewer reads.

The form is that of `circuit_tracer/frontend/graph_models.py` (github.com/safety-research/circuit-tracer, schema version
1: a node's `feature` is the Cantor pairing of layer and index) and of `apps/webapp/app/api/graph/graph-schema.json`
(github.com/hijohnnylin/neuronpedia), which Neuronpedia validates uploads with. In place of transcoder features stand
heads at the token that they write to; their index is the head's number, that of other writers follows after the heads.
There are no logit nodes, since a trace holds no edges to logits.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gpt2jax.token_text import text_of_strings
from svdtrace.errors import OutputError
from svdtrace.prompts.edge_names import writer_layer
from svdtrace.results.circuit_graph import token_labels
from svdtrace.surroundings.paths import path_of

INPUT = "E"
_TYPES = {"mlp": "mlp", "attn_bias": "attention bias", "embed": "embedding", "pos": "position", "const": "constant"}
_KINDS = tuple(_TYPES)

Place = tuple[str, int]
"""A writer at a token."""


@dataclass(frozen=True)
class Names:
    """What places are called in the file; `tokens` are the prompt's ids."""

    tokens: Sequence[int]
    n_heads: int

    def layer(self, writer: str) -> str:
        """A writer's layer, or that of the input."""
        return str(writer_layer(writer)) if writer_layer(writer) >= 0 else INPUT

    def index(self, writer: str) -> int:
        """A head's number; other writers come after the heads."""
        kind, _, number = writer.partition(".")
        return int(number) if kind.isdigit() else self.n_heads + _KINDS.index(kind)

    def stem(self, place: Place) -> str:
        """Layer and index, as the names of nodes begin."""
        writer, token = place
        of_token = f"{self.tokens[token]}" if writer == "embed" else f"{self.index(writer)}"
        return f"{self.layer(writer)}_{of_token}"

    def node(self, place: Place) -> str:
        """A node's name."""
        return f"{self.stem(place)}_{place[1]}"


def attribution_graph(
    prompts: pa.Table,
    edges: pa.Table,
    manifest: Mapping[str, Any],
    prompt: int,
    nodes_max: int = 500,
    links_max: int = 5000,
) -> dict[str, Any]:
    """What the viewer reads: `metadata`, `qParams`, `nodes`, `links`.

    A link leads from a writer at the token where it wrote to the reader at the token where that reader fires; its
    weight is the sum of the edges' between them. Kept are first the nodes whose links weigh most, then the strongest
    links.

    Args:
        prompts, edges, manifest: of a trace.
        prompt: its number in these.
        nodes_max, links_max: how many a viewer is given at most.

    Raises:
        OutputError: the prompt has no edges, of which the viewer could make nothing.
    """
    edges = edges.filter(pc.field("prompt") == prompt)
    if not edges.num_rows:
        raise OutputError(f"prompt {prompt} has no edges to show; name another one with --prompt")
    row = prompts.filter(pc.field("prompt") == prompt)
    (about,) = row.to_pylist()
    links = _pruned(_links(edges), nodes_max, links_max)
    places = sorted({place for ends in links for place in ends}, key=lambda place: (writer_layer(place[0]), place))
    sources = _sources(edges, token_labels(row)[prompt])
    names = Names(about["tokens"], manifest["model"]["n_heads"])
    return {
        "metadata": _metadata(about, manifest, {"nodes_max": nodes_max, "links_max": links_max}),
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": [_node(place, names, sources.get(place, ())) for place in places],
        "links": [
            {"source": names.node(writer), "target": names.node(reader), "weight": weight}
            for (writer, reader), weight in links.items()
        ],
    }


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Write what `attribution_graph` gives."""
    path_of(path).write_text(
        json.dumps(content, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8"
    )


def _links(edges: pa.Table) -> dict[tuple[Place, Place], float]:
    """The weight between each writer at its token and each reader at its firing's destination."""
    found: defaultdict[tuple[Place, Place], float] = defaultdict(float)
    names = ("writer", "token", "layer", "head", "dest", "weight")
    for writer, token, layer, head, dest, weight in zip(*(edges[name].to_pylist() for name in names), strict=True):
        found[(writer, token), (f"{layer}.{head}", dest)] += weight
    return dict(found)


def _pruned(
    links: Mapping[tuple[Place, Place], float], nodes_max: int, links_max: int
) -> dict[tuple[Place, Place], float]:
    """The strongest links between the nodes whose links weigh most, the strongest first."""
    strength: defaultdict[Place, float] = defaultdict(float)
    for ends, weight in links.items():
        for place in ends:
            strength[place] += abs(weight)
    nodes = set(sorted(strength, key=lambda place: -strength[place])[:nodes_max])
    between = [(ends, weight) for ends, weight in links.items() if nodes.issuperset(ends)]
    between.sort(key=lambda link: -abs(link[1]))
    return dict(between[:links_max])


def _sources(edges: pa.Table, labels: Mapping[int, str]) -> dict[Place, Sequence[str]]:
    """For each reader at the token where it fires, the tokens that it reads, in order."""
    found: dict[Place, dict[int, str]] = {}
    for layer, head, dest, src in zip(
        *(edges[name].to_pylist() for name in ("layer", "head", "dest", "src")), strict=True
    ):
        found.setdefault((f"{layer}.{head}", dest), {})[src] = labels.get(src, str(src))
    return {place: [tokens[src] for src in sorted(tokens)] for place, tokens in found.items()}


def _node(place: Place, names: Names, sources: Sequence[str]) -> dict[str, Any]:
    writer, token = place
    layer, kind = writer_layer(writer), writer.partition(".")[0]
    index = names.index(writer)
    reads = f" reads {', '.join(sources)}" if sources else ""
    return {
        "node_id": names.node(place),
        "feature": (layer + index) * (layer + index + 1) // 2 + index if layer >= 0 else index,
        "layer": names.layer(writer),
        "ctx_idx": token,
        "feature_type": _TYPES.get(kind, "attention head"),
        "token_prob": 0.0,
        "is_target_logit": False,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": f"{names.stem(place)}-{0 if layer >= 0 else token}",
        # The viewer puts it into its page as it is.
        "clerp": escape(f"{writer}{reads}"),
        "influence": None,
        "activation": None,
    }


def _text(about: Mapping[str, Any]) -> str:
    """The prompt untokenized: its text; without one the ids, or what the tokens show, escapes undone."""
    strings = about["strings"]
    if about.get("text") is not None:
        return about["text"]
    return " ".join(strings) if all(map(str.isdigit, strings)) else text_of_strings(strings)


def _metadata(about: Mapping[str, Any], manifest: Mapping[str, Any], pruning: Mapping[str, int]) -> dict[str, Any]:
    model = manifest["model"]
    shape = model["n_layers"], model["n_heads"]
    return {
        "slug": f"svdtrace-{str(model['fingerprint'])[:8]}-prompt-{about['prompt']}",
        # Only where Neuronpedia shows it: it has no name for other models of this shape.
        "scan": "gpt2-small" if shape == (12, 12) else "gpt2-{}-layers-{}-heads".format(*shape),
        "transcoder_list": [],
        "prompt_tokens": about["strings"],
        "prompt": _text(about),
        "schema_version": 1,
        "info": {"generator": {"name": "svdtrace", "version": str(manifest["version"])}},
        "generation_settings": {name: value for name, value in manifest["config"].items() if name != "batch_size"},
        "pruning_settings": dict(pruning),
    }
