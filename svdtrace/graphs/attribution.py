"""One prompt's circuit as an attribution graph, the JSON that circuit-tracer writes and Neuronpedia's viewer reads.

The form is that of `circuit_tracer/frontend/graph_models.py` (github.com/safety-research/circuit-tracer, schema version
1: a node's `feature` is the Cantor pairing of layer and index) and of `apps/webapp/app/api/graph/graph-schema.json`
(github.com/hijohnnylin/neuronpedia), which Neuronpedia validates uploads with; `qk_tracing_results` is what the README
of its apps/graph says of heads. In place of transcoder features stand heads at the token that they write to. Where
roots come from the output, a node of type `logit` stands for the direction that root heads write into (METHOD.md,
section 11).

The steps:

1. Edges between the same places are summed to links, and root heads are linked to the output by their direct effects.
2. The nodes whose links weigh most are kept, then the strongest links; the output and the root heads stay.
3. Nodes are named, so that different ones never share a name (`svdtrace.graphs.attribution_names`).
4. Influence is counted down from the output, or where there is none from the roots, over the links that are shown.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import networkx as nx
import pyarrow as pa
import pyarrow.compute as pc

from gpt2jax.token_text import text_of_strings
from svdtrace.errors import OutputError
from svdtrace.graphs.attribution_names import NodeNames, Place
from svdtrace.graphs.communities import communities
from svdtrace.graphs.influence import cumulative_influence
from svdtrace.prompts.edge_names import OUTPUT, writer_layer
from svdtrace.results.circuit_graph import token_labels
from svdtrace.results.emptiness import why_empty
from svdtrace.surroundings.paths import path_of
from svdtrace.tracing.roots import ALL

_TYPES = {"mlp": "mlp", "attn_bias": "attention bias", "embed": "embedding", "pos": "position", "const": "constant"}
NEURONPEDIA = {"gpt2": "gpt2-small", "openai-community/gpt2": "gpt2-small"}
"""What Neuronpedia calls a model of the hub, where it is not the hub's name."""
PINNED = 200
"""How many pinned nodes the viewer shows at most."""
CONTRIBUTORS = 10
"""How many of the strongest writers on each side are listed of a head."""

Link = tuple[Place, Place]


@dataclass(frozen=True)
class Circuit:
    """One prompt's links: from a writer at its token to a reader at its destination, the strongest first.

    `roots`: the places that tracing started from, the output first where they come from it; `by_side`: the links'
    weights on either side, `dest` or `src`.
    """

    links: Mapping[Link, float]
    roots: Sequence[Place]
    by_side: Mapping[str, Mapping[Link, float]]

    @property
    def places(self) -> list[Place]:
        """All places, by layer, the output last."""
        found = {place for link in self.links for place in link}
        return sorted(found, key=lambda place: (place[0] == OUTPUT, writer_layer(place[0]), place))


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
    weight is the sum of the edges' between them, and a head's `qk_tracing_results` say on which side it read them.
    (What two writers, one on each side, make together is not in a trace: `pair_wise_contributors` is empty.) Links into
    the output weigh direct effects, in logits. Pinned are the output and the roots; with roots `all`, or none of them
    among the nodes shown, those that lead nowhere. Groups are the communities that a pinned node belongs to.

    Args:
        prompts, edges, manifest: of a trace.
        prompt: its number in these.
        nodes_max, links_max: how many a viewer is given at most.

    Raises:
        OutputError: the prompt has no edges, of which the viewer could make nothing.
    """
    edges = edges.filter(pc.field("prompt") == prompt)
    if not edges.num_rows:
        way_out = why_empty(manifest) or "name another one with --prompt"
        raise OutputError(f"prompt {prompt} has no edges to show; {way_out[0].lower()}{way_out[1:]}")
    row = prompts.filter(pc.field("prompt") == prompt)
    (about,) = row.to_pylist()
    circuit = _pruned(_circuit(edges, about, manifest["config"].get("roots", ALL)), nodes_max, links_max)
    model = manifest["model"]
    names = NodeNames(about["tokens"], model["n_heads"], model["n_layers"], about.get("target") or 0)
    ids = {place: names.node(place) for place in circuit.places}
    sources = _sources(edges, token_labels(row)[prompt])
    influence = cumulative_influence(circuit.links, circuit.roots)
    pinned = circuit.roots[:PINNED]
    return {
        "metadata": _metadata(about, manifest, {"nodes_max": nodes_max, "links_max": links_max}),
        "qParams": {
            "pinnedIds": [ids[place] for place in pinned],
            "supernodes": _groups(circuit, pinned, ids),
            "linkType": "both",
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": [
            {
                **_node(place, names, about, sources.get(place, ())),
                "influence": influence.get(place),
                **_heard(place, circuit, ids),
            }
            for place in circuit.places
        ],
        "links": [
            {"source": ids[writer], "target": ids[reader], "weight": weight}
            for (writer, reader), weight in circuit.links.items()
        ],
    }


def write(content: Mapping[str, Any], path: str | Path) -> None:
    """Write what `attribution_graph` gives, in ASCII, so that no character of a token can be one that UTF-8 lacks."""
    path_of(path).write_text(json.dumps(content, allow_nan=False, indent=1) + "\n", encoding="ascii")


def _circuit(edges: pa.Table, about: Mapping[str, Any], roots: str) -> Circuit:
    """All links of a prompt."""
    by_side: dict[str, defaultdict[Link, float]] = {side: defaultdict(float) for side in ("dest", "src")}
    ways: dict[tuple[Place, int], int] = {}
    arriving: defaultdict[Place, int] = defaultdict(int)
    columns = ("writer", "token", "layer", "head", "dest", "src", "side", "weight", "paths")
    for writer, token, layer, head, dest, src, side, weight, paths in zip(
        *(edges[name].to_pylist() for name in columns), strict=True
    ):
        reader = f"{layer}.{head}", dest
        by_side[side][(writer, token), reader] += weight
        ways[reader, src] = paths or 0
        arriving[writer, token] += paths or 0
    links: defaultdict[Link, float] = defaultdict(float)
    for each in by_side.values():
        for link, weight in each.items():
            links[link] += weight
    output = OUTPUT, dict(about["roles"]).get("end", len(about["tokens"]) - 1)
    found: Sequence[tuple[str, float]] = about.get("root_effects") or ()
    effects = sorted(found, key=lambda effect: -effect[1])
    written = {((head, output[1]), output): effect for head, effect in effects}
    if written:
        starts = [output, *(head for head, _ in written)]
    else:
        # A root has more ways to it than arrive from above; with roots `all` every firing has.
        starts = [reader for (reader, _), many in ways.items() if roots != ALL and many > arriving[reader]]
    return Circuit({**written, **links}, list(dict.fromkeys(starts)), by_side)


def _pruned(circuit: Circuit, nodes_max: int, links_max: int) -> Circuit:
    """The strongest links between the nodes whose links weigh most; what leads into the output comes first."""
    strength: defaultdict[Place, float] = defaultdict(float)
    for ends, weight in circuit.links.items():
        for place in ends:
            strength[place] += abs(weight)
    first = circuit.roots if circuit.roots and circuit.roots[0][0] == OUTPUT else []
    nodes = set(list(dict.fromkeys([*first, *sorted(strength, key=lambda place: -strength[place])]))[:nodes_max])
    between = [(ends, weight) for ends, weight in circuit.links.items() if nodes.issuperset(ends)]
    between.sort(key=lambda link: (link[0][1][0] != OUTPUT, -abs(link[1])))
    links = dict(between[:links_max])
    writers, readers = ({ends[which]: None for ends in links} for which in (0, 1))
    shown = [place for place in circuit.roots if place in writers or place in readers]
    return Circuit(links, shown or [place for place in readers if place not in writers], circuit.by_side)


def _sources(edges: pa.Table, labels: Mapping[int, str]) -> dict[Place, Sequence[str]]:
    """For each reader at the token where it fires, the tokens that it reads, in order."""
    found: dict[Place, dict[int, str]] = {}
    for layer, head, dest, src in zip(
        *(edges[name].to_pylist() for name in ("layer", "head", "dest", "src")), strict=True
    ):
        found.setdefault((f"{layer}.{head}", dest), {})[src] = labels.get(src, str(src))
    return {place: [tokens[src] for src in sorted(tokens)] for place, tokens in found.items()}


def _groups(circuit: Circuit, pinned: Sequence[Place], ids: Mapping[Place, str]) -> list[list[str]]:
    """Communities of heads, each a label with the nodes of its heads, the output apart.

    The viewer shows of a group what is pinned; one without any would be an empty box.
    """
    graph = nx.MultiDiGraph()
    for (writer, reader), weight in circuit.links.items():
        graph.add_edge(writer[0], reader[0], total=weight)
    found = []
    for members in communities(graph).members:
        places = [place for place in ids if place[0] in members]
        if len(places) > 1 and not set(pinned).isdisjoint(places):
            found.append([f"community {len(found) + 1}", *(ids[place] for place in places)])
    return found


def _heard(place: Place, circuit: Circuit, ids: Mapping[Place, str]) -> dict[str, Any]:
    """Who wrote most into what a head looks for (the query) and into what it finds (the key)."""

    def strongest(side: str) -> list[list[Any]]:
        found = [
            (ids[link[0]], weight)
            for link, weight in circuit.by_side[side].items()
            if link[1] == place and link in circuit.links
        ]
        return [list(each) for each in sorted(found, key=lambda each: -abs(each[1]))[:CONTRIBUTORS]]

    by_query, by_key = strongest("dest"), strongest("src")
    if not by_query and not by_key:
        return {}
    heard = {"top_q_marginal_contributors": by_query, "top_k_marginal_contributors": by_key}
    return {"qk_tracing_results": {"pair_wise_contributors": [], **heard}}


def _node(place: Place, names: NodeNames, about: Mapping[str, Any], sources: Sequence[str]) -> dict[str, Any]:
    writer, token = place
    kind, is_output = writer.partition(".")[0], writer == OUTPUT
    probability = (about.get("target_probability") or 0.0) if is_output else 0.0
    reads = f" reads {', '.join(sources)}" if sources else ""
    said = _output(about, probability) if is_output else f"{writer}{reads}"
    return {
        "node_id": names.node(place),
        "feature": names.feature(place),
        "layer": names.layer(writer),
        "ctx_idx": token,
        "feature_type": "logit" if is_output else _TYPES.get(kind, "attention head"),
        "token_prob": probability,
        "is_target_logit": is_output,
        "run_idx": 0,
        "reverse_ctx_idx": 0,
        "jsNodeId": names.page(place),
        # The viewer puts it into its page as it is, and reads a logit's token and probability from between these marks.
        "clerp": escape(said, quote=not is_output),
        "activation": None,
    }


def _output(about: Mapping[str, Any], probability: float) -> str:
    """The output's label: the token whose logit the direction raises, and against which."""
    text = str(about.get("target_string")).replace('"', "'")
    named = about["answer"] is not None and about["distractor"] is not None
    strings = dict(zip(about["tokens"], about["strings"], strict=True))
    other = strings.get(about["distractor"], f"token {about['distractor']}") if named else "the mean token"
    return f'Output "{text}" (p={probability:.3f}) over {other}'


def _text(about: Mapping[str, Any]) -> str:
    """The prompt untokenized: its text; without one the ids, or what the tokens show, escapes undone."""
    strings = about["strings"]
    if about.get("text") is not None:
        return about["text"]
    return " ".join(strings) if all(map(str.isdigit, strings)) else text_of_strings(strings)


def _scan(model: Mapping[str, Any]) -> str:
    """The model's name: that of the hub which the user gave, else its shape, which names no model in particular."""
    name = str(model.get("hub_id") or "").partition("@")[0]
    return NEURONPEDIA.get(name, name) or f"gpt2-{model['n_layers']}-layers-{model['n_heads']}-heads"


def _metadata(about: Mapping[str, Any], manifest: Mapping[str, Any], pruning: Mapping[str, int]) -> dict[str, Any]:
    return {
        "slug": f"svdtrace-{str(manifest['model']['fingerprint'])[:8]}-prompt-{about['prompt']}",
        "scan": _scan(manifest["model"]),
        "transcoder_list": [],
        "prompt_tokens": about["strings"],
        "prompt": _text(about),
        # All nodes are shown at first; the viewer's slider hides the least influential.
        "node_threshold": 1.0,
        "schema_version": 1,
        "info": {"generator": {"name": "svdtrace", "version": str(manifest["version"])}},
        "generation_settings": {name: value for name, value in manifest["config"].items() if name != "batch_size"},
        "pruning_settings": dict(pruning),
    }
