"""An induction circuit written by hand, weight by weight, LayerNorm and all: the trace must find it and nothing else.

Features (`svdtrace.truth.drawing`): the token (one-hot), its position (one-hot), the previous token (one-hot, once head
1.0 has written it), and `rest`, one number that is always there. Every token has as many features as any other, so that
the variance of the residual is the same at all of them.

* 0.1, a decoy, takes 3 from `rest` everywhere: more than any other head writes, into a direction that 2.0 reads.
* 1.0 looks from each position to the one before and writes, at size 2, which token stands there.
* 2.0 looks from a token to where that token is the previous one, and writes the token it finds there.
* 1.0 and 2.0 also read `rest`, with a negative product that is the same for all sources: as in trained models, the sum
  of the others overshoots the score, and the slice ends.

Reading strengths differ between tokens and between positions, so that the singular vectors are these features.
"""

from __future__ import annotations

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import oracle
import pytest

import gpt2jax
import svdtrace
from gpt2jax import edits
from svdtrace.prompts import Prompt
from svdtrace.truth.drawing import Drawing

STRINGS = ("<s>", "A", "B", "c", "d", "e", "f")
N_TOKENS, N_POSITIONS = len(STRINGS), 8
TOKEN = slice(0, N_TOKENS)
POSITION = slice(TOKEN.stop, TOKEN.stop + N_POSITIONS)
PREVIOUS = slice(POSITION.stop, POSITION.stop + N_TOKENS)
REST = PREVIOUS.stop
N_FEATURES = 24
CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=3, d_model=2 * N_FEATURES, d_mlp=4, n_ctx=N_POSITIONS, d_vocab=N_TOKENS)
ROOT = "2.0@end:B"
# <s>, then A and B next to each other among others, then A again.
TEXTS = ("f c A B d e A", "A B c d e f A", "c e d A B f A", "c e B f d c B", "d c A f e B d", "e A B f c d e")


def planted_model() -> gpt2jax.Model:
    # Squared features of the residual that each layer reads: token, position, rest; the previous token in layer 2.
    scales = [
        np.sqrt(total / N_FEATURES + CONFIG.layer_norm_epsilon) for total in (1 + 1 + 36, 1 + 1 + 9, 1 + 1 + 9 + 4)
    ]
    drawing, feature = Drawing(CONFIG, scales), np.eye(N_FEATURES)
    token, position, previous, rest = feature[TOKEN], feature[POSITION], feature[PREVIOUS], feature[[REST]]
    for head, wanted, there in (((1, 0), position[1:], position[:-1]), ((2, 0), token, previous / 2)):
        drawing.looks(head, wanted, there, 60 * (1 + 0.05 * np.arange(len(wanted))))
        drawing.leans(head, -7 * rest[0])
    drawing.moves((0, 1), rest, -0.5 * rest)
    drawing.moves((1, 0), token, 2.0 * previous)
    drawing.moves((2, 0), token, 5.0 * token)
    return drawing.model(token, position + 6.0 * rest, np.random.default_rng(0))


def prompt(text: str) -> Prompt:
    """A prompt whose last token stands before: roles A (there), B (after it), end."""
    strings = ("<s>", *text.split())
    tokens = tuple(STRINGS.index(each) for each in strings)
    end = len(tokens) - 1
    first = tokens.index(tokens[end])
    roles = {"A": first, "B": first + 1, "end": end}
    return Prompt(None, tokens, strings, roles, answer=tokens[first + 1], distractor=tokens[end])


PROMPTS = [prompt(text) for text in TEXTS]
TOKENS = np.asarray([each.tokens for each in PROMPTS], np.int32)
ROLES = [each.roles for each in PROMPTS]


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return planted_model()


def traced(model: gpt2jax.Model, **settings: object) -> svdtrace.Trace:
    return svdtrace.trace(model, PROMPTS, svdtrace.TraceConfig(**({"roots": ROOT, "writers": "all"} | settings)))


@pytest.fixture(scope="module")
def trace(model: gpt2jax.Model) -> svdtrace.Trace:
    return traced(model)


def names(trace: svdtrace.Trace, at: int, reader: tuple[int, int], side: str) -> set[str]:
    return {
        row["writer"]
        for row in trace.edges.to_pylist()
        if row["prompt"] == at and (row["layer"], row["head"]) == reader and row["side"] == side
    }


def drawing(trace: svdtrace.Trace, at: int) -> str:
    """The traced graph of one prompt as a tree: under a firing the writers of both its sides, heads with their own."""
    label = {position: role for role, position in trace.prompts["roles"].to_pylist()[at]}
    size = {
        (row["layer"], row["head"], row["dest"], row["src"]): row["size"]
        for row in trace.firings.to_pylist()
        if row["prompt"] == at
    }
    edges = [row for row in trace.edges.to_pylist() if row["prompt"] == at]

    def under(firing: tuple[int, ...]) -> list[str]:
        mine = [row for row in edges if tuple(row[name] for name in ("layer", "head", "dest", "src")) == firing]
        lines = []
        for place, row in enumerate(mine):
            end = place == len(mine) - 1
            lines.append(f"{'└─' if end else '├─'} {label[row['token']]}: {row['writer']}")
            writer = (row["writer_layer"], row["writer_head"], row["token"])
            for below in (each for each in size if each[:3] == writer):
                lines[-1] = f"{'└─' if end else '├─'} {label[row['token']]}: {shown(below)}"
                lines += [f"{'   ' if end else '│  '}{line}" for line in under(below)]
        return lines

    def shown(firing: tuple[int, ...]) -> str:
        layer, head, dest, src = firing
        return f"{layer}.{head} {label[dest]}→{label[src]}, {size[firing]} of {CONFIG.d_head} singular vectors"

    reached = {(row["writer_layer"], row["writer_head"], row["token"]) for row in edges}
    roots = [firing for firing in size if firing[:3] not in reached]
    return "\n".join(line for root in roots for line in (shown(root), *under(root)))


CIRCUIT = """
2.0 end→B, 1 of 16 singular vectors
├─ end: embed
└─ B: 1.0 B→A, 1 of 16 singular vectors
   ├─ B: pos
   └─ A: pos
"""


@pytest.mark.whole
def test_the_model_predicts_what_came_after(model: gpt2jax.Model) -> None:
    """And it does so because of 1.0: without it the prediction is gone, without the decoy it is not."""
    out = gpt2jax.forward(model, TOKENS, taps=["blocks.*.attn.hook_pattern"])
    pattern = out.taps["blocks.*.attn.hook_pattern"]
    for place, roles in enumerate(ROLES):
        assert pattern[2, place, 0, roles["end"], roles["B"]] > 0.9
        assert pattern[1, place, 0, roles["B"], roles["A"]] > 0.9
    answers = np.asarray([each.answer for each in PROMPTS])
    assert np.array_equal(np.argmax(out.logits[:, -1], axis=-1), answers)

    @jax.jit
    def predicted(kept: jax.Array) -> jax.Array:
        hooks = {f"blocks.{layer}.attn.hook_z": edits.scale(kept[layer]) for layer in (0, 1)}
        return jnp.argmax(gpt2jax.forward(model, TOKENS, hooks=hooks).logits[:, -1], axis=-1)

    assert np.array_equal(predicted(jnp.array([0.0, 1.0])), answers)
    assert not np.any(predicted(jnp.array([1.0, 0.0])) == answers)


CIRCUIT_EDGES = {
    ("embed@end", "2.0@end", "dest"),
    ("1.0@B", "2.0@end", "src"),
    ("pos@B", "1.0@B", "dest"),
    ("pos@A", "1.0@B", "src"),
}


def check_circuit(trace: svdtrace.Trace, largest: int = 1) -> None:
    for at in range(len(PROMPTS)):
        assert re.sub(r"\d+ of", "1 of", drawing(trace, at)) == CIRCUIT.strip(), TEXTS[at]
    assert max(trace.firings["size"].to_pylist()) <= largest
    product = {(row["prompt"], row["layer"]): sum(row["products"]) for row in trace.firings.to_pylist()}
    for row in trace.edges.to_pylist():
        # All writers together account for the whole slice, on either side.
        assert row["weight"] / row["share"] == pytest.approx(product[row["prompt"], row["layer"]], rel=1e-3)
    graph = trace.graph()
    to_output = {edge for edge in graph.edges if edge[1] == "output"}
    assert set(graph.edges) - to_output == CIRCUIT_EDGES
    assert all(data["prompts"] == len(PROMPTS) for *ends, data in graph.edges(data=True) if ends[1] != "output")
    # It can be walked: from the position that 1.0 reads up to what 2.0 writes.
    assert {"pos@B", "1.0@B", "2.0@end"} <= nx.ancestors(graph, "2.0@end") | {"2.0@end"}
    assert to_output <= {("2.0@end", "output", "output")}
    assert bool(to_output) == (trace.manifest["config"]["roots"] == "logit")
    assert not any(trace.edges["near_tie"].to_pylist() + trace.firings["near_tie"].to_pylist())


@pytest.mark.whole
def test_the_traced_graph_is_the_circuit(trace: svdtrace.Trace) -> None:
    check_circuit(trace)
    # Nothing else has a part in it.
    assert trace.edges["share"].to_numpy() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.whole
def test_so_it_is_with_gains_and_biases_left_in_place(model: gpt2jax.Model) -> None:
    """Features divided by gains are no longer at right angles, so that a slice may need a second vector."""
    check_circuit(traced(model, processing="raw"), largest=2)


@pytest.mark.whole
def test_the_answer_leads_to_the_same_circuit(model: gpt2jax.Model) -> None:
    check_circuit(traced(model, roots="logit"))


@pytest.mark.full
def test_a_decoy_that_writes_more_is_no_edge(model: gpt2jax.Model, trace: svdtrace.Trace) -> None:
    """0.1 writes more than 1.0, where 2.0 reads, yet not in the slice: `all` takes it for an edge, `exact` does not."""
    parts = gpt2jax.residual_contributions(model, TOKENS, "blocks.2.hook_resid_pre")
    for place, roles in enumerate(ROLES):
        norm = dict(zip(parts.labels, np.linalg.norm(parts.values[place, :, roles["B"]], axis=-1), strict=True))
        assert max((name for name in norm if name[0].isdigit()), key=lambda name: norm[name]) == "0.1"
        assert norm["0.1"] == pytest.approx(1.5 * norm["1.0"], rel=1e-2)
    by_method = {method: traced(model, method=method, sides="src") for method in ("paper", "all")}
    for place in range(len(PROMPTS)):
        assert names(trace, place, (2, 0), "src") == names(by_method["paper"], place, (2, 0), "src") == {"1.0"}
        assert "0.1" in names(by_method["all"], place, (2, 0), "src")


def with_random_heads() -> gpt2jax.Model:
    """1.1 looks where random weights make it look; 0.0 and 0.2 write little, and at random."""
    model, rng = planted_model(), np.random.default_rng(1)
    blocks = model.params.blocks
    W = {name: np.array(getattr(blocks, name)) for name in ("W_Q", "W_K", "W_V", "W_O")}
    for name in ("W_Q", "W_K"):
        W[name][1, 1] = 0.6 * rng.normal(size=W[name][1, 1].shape)
    for head in (0, 2):
        for name in ("W_V", "W_O"):
            W[name][0, head] = 0.03 * rng.normal(size=W[name][0, head].shape)
    blocks = replace(blocks, **{name: jnp.asarray(value) for name, value in W.items()})
    return replace(model, params=replace(model.params, blocks=blocks))


@pytest.mark.full
def test_nulls_tell_the_circuit_from_random_heads() -> None:
    model, config = with_random_heads(), svdtrace.TraceConfig(writers="all")
    # With fewer draws the weakest of the circuit's p-values, about 0.0005, would hang on a single draw.
    found = svdtrace.chance(model, PROMPTS, config, nulls=2999)
    whole = found.annotate(svdtrace.trace(model, PROMPTS, config))
    kept = found.annotate(svdtrace.trace(model, PROMPTS, config, keep=found.survivors(0.05)))
    assert set(kept.graph().edges) >= CIRCUIT_EDGES
    assert any(target.startswith("1.1@") for _, target, _ in whole.graph().edges)
    edges = kept.graph().edges
    assert not any(target.startswith("1.1@") or writer[:3] in ("0.0", "0.2") for writer, target, _ in edges)
    # Those that stay are those with a small q-value, and ways are counted over them alone.
    q = whole.edges["q_value"].to_numpy()
    assert 0 < kept.edges.num_rows == np.sum(q <= 0.05) < whole.edges.num_rows
    firings, edges = kept.firings.to_pylist(), kept.edges.to_pylist()
    starts = [oracle.key(row) for row in firings]
    counted = oracle.paths_by_recursion(firings, edges, starts)
    assert {oracle.key(row): row["paths"] for row in firings} == counted
