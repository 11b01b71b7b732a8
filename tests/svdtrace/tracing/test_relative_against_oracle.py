"""Relative attention against the slow truth, every row in float64; and its laws (METHOD.md, section 14)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import oracle
import pytest
from oracle_model import oracle_model

import gpt2jax
import svdtrace
from svdtrace.method.firings import FiringList
from svdtrace.prompts import Prompt
from svdtrace.tracing import tables
from svdtrace.tracing.rows import SIDES, Ragged, WriterOrder, gather_rows

FIRING = ("prompt", "layer", "head", "dest", "src")
EDGE = (*FIRING, "side", "writer", "token")
SMALL = gpt2jax.GPT2Config(n_layers=3, n_heads=2, d_model=8, d_mlp=12, n_ctx=12, d_vocab=17)
STORED = float(np.finfo(np.float32).eps)
"""Tables hold float32."""
SETTINGS: list[dict[str, Any]] = [{"select": "until", "keys": "all", "threshold": "dynamic", "processing": "raw"}]
MORE_SETTINGS: list[dict[str, Any]] = [
    {},
    {"select": "until", "keys": "own", "threshold": 0.4, "roots": "2.1@end:*,2.0@*:A", "skip_first": False},
    {"select": "until", "threshold": "dynamic", "tau": 0.7},
    {"keys": "all", "coverage": 0.95, "skip_first": False},
    {"keys": "own", "writers": "heads", "sides": "src", "processing": "raw"},
    {"writers": "heads", "sides": "dest", "select": "until"},
]
AWKWARD: dict[str, dict[str, Any]] = {
    "one_head": {"n_heads": 1},
    "d_head_1": {"n_heads": 8, "n_layers": 2},
    "inverse_layer_scaling": {"scale_attn_by_inverse_layer_idx": True},
    "unscaled": {"scale_attn_weights": False},
}


def small_model(seed: int = 3, std: float = 0.8, **changes: Any) -> gpt2jax.Model:
    return gpt2jax.random_model(replace(SMALL, **changes), jax.random.key(seed), std=std, biases=0.3)


def small_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts of two lengths, some of which end before their last token."""
    rng = np.random.default_rng(seed)
    prompts = []
    for place in range(count):
        tokens = tuple(int(token) for token in rng.integers(0, SMALL.d_vocab, 8 + 2 * (place % 2)))
        roles = {"A": int(rng.integers(1, 6))} | ({"end": 6} if place % 3 else {})
        prompts.append(Prompt(id=None, tokens=tokens, strings=tuple(map(str, tokens)), roles=roles))
    return prompts


def by_key(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[tuple, dict[str, Any]]:
    return {tuple(row[name] for name in names): row for row in rows}


def compare(model: gpt2jax.Model, prompts: list[Prompt], settings: dict[str, Any]) -> oracle.Trace:
    """Every row of a trace in float64 equals the oracle's, decided alike."""
    config = svdtrace.TraceConfig(method="relative", dtype="float64", **settings)
    # In float64 positions are 64-bit and tokens are not, of which strict promotion complains.
    with jax.numpy_dtype_promotion("standard"):
        ours = svdtrace.trace(model, prompts, config)
    truth = oracle.relative_trace(*oracle_model(model), prompts, settings)
    firings, expected = by_key(ours.firings.to_pylist(), FIRING), by_key(truth.firings, FIRING)
    assert firings.keys() == expected.keys()
    for key, true in expected.items():
        mine = firings[key]
        assert mine["slice"] == true["slice"]
        for name in ("pattern", "score", "total", "products"):
            np.testing.assert_allclose(mine[name], true[name], rtol=STORED, atol=1e-10)
        assert abs(mine["quadrature"] - true["quadrature"]) <= 1e-12
        assert mine["paths"] == true["paths"]
    edges, expected = by_key(ours.edges.to_pylist(), EDGE), by_key(truth.edges, EDGE)
    assert len(edges) == ours.edges.num_rows
    assert edges.keys() == expected.keys()
    for key, true in expected.items():
        mine = edges[key]
        for name in ("weight", "share", "own", "drop"):
            assert (mine[name] is None) == (true[name] is None)
            if true[name] is not None:
                size = abs(true["weight"] / true["share"]) if name == "share" and true["share"] else 1
                assert abs(mine[name] - true[name]) <= 2 * STORED * abs(true[name]) + 1e-10 / size
        for name in ("writer_layer", "writer_head", "through", "unreached", "nonpositive_total", "paths"):
            assert mine[name] == true[name], name
    return truth


@pytest.mark.parametrize(
    "settings",
    [*SETTINGS, *(pytest.param(each, marks=pytest.mark.full) for each in MORE_SETTINGS)],
    ids=lambda each: ",".join(f"{name}={value}" for name, value in each.items()) or "default",
)
def test_every_row_equals_the_oracles(settings: dict[str, Any]) -> None:
    truth = compare(small_model(), small_prompts(4), settings)
    assert len(truth.edges) > 40


@pytest.mark.full
@pytest.mark.parametrize("awkward", AWKWARD)
@pytest.mark.parametrize("settings", [*SETTINGS, {}], ids=("until", "cover"))
def test_awkward_models(awkward: str, settings: dict[str, Any]) -> None:
    model = small_model(**AWKWARD[awkward])
    assert compare(model, small_prompts(3), settings).edges


@pytest.mark.full
def test_a_rank_deficient_model() -> None:
    model = small_model()
    blocks = model.params.blocks
    flat = blocks.W_Q.at[..., 1:].set(blocks.W_Q[..., :1])
    params = replace(
        model.params, blocks=replace(blocks, W_Q=flat, b_Q=blocks.b_Q.at[..., 1:].set(blocks.b_Q[..., :1]))
    )
    assert compare(replace(model, params=params), small_prompts(3), {}).edges


@pytest.fixture(scope="module")
def ours() -> svdtrace.Trace:
    """In float32, of six prompts."""
    return svdtrace.trace(small_model(), small_prompts(6, seed=4), svdtrace.TraceConfig(method="relative"))


def test_the_graph_says_what_edges_go_through(ours: svdtrace.Trace) -> None:
    """Catches roles of another prompt, of the readers' tokens, and lists taken for one value."""
    roles = {row["prompt"]: {place: name for name, place in row["roles"]} for row in ours.prompts.to_pylist()}
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for edge in ours.edges.to_pylist():
        at = roles[edge["prompt"]]
        writer = f"{edge['writer']}@{at.get(edge['token'], 'other')}"
        name = writer, f"{edge['layer']}.{edge['head']}@{at.get(edge['dest'], 'other')}", edge["side"]
        counts.setdefault(name, Counter()).update(at.get(b, "other") for b in edge["through"] or ())
    graph, several = ours.graph(), 0
    assert set(graph.edges(keys=True)) == counts.keys()
    for *name, attributes in graph.edges(keys=True, data=True):
        found = counts[tuple(name)]
        ranked = sorted(found, key=lambda role: (-found[role], role))
        assert attributes.get("through") == (",".join(ranked) if ranked else None)
        several += len(ranked) > 1
    assert several > 5


def test_folders_hold_a_relative_trace(ours: svdtrace.Trace, tmp_path: Path) -> None:
    """Catches columns lost on disk, and parts of a sweep without them."""
    ours.save(tmp_path / "trace")
    again = svdtrace.read(tmp_path / "trace")
    assert again.firings.equals(ours.firings)
    assert again.edges.equals(ours.edges)
    assert again.manifest["quadrature"] == {"above": 1e-6, "firings": 0}
    config = svdtrace.TraceConfig(method="relative", batch_size=8)
    svdtrace.sweep(small_model(), small_prompts(6, seed=4), tmp_path / "sweep", config, part_size=8)
    swept = svdtrace.read(tmp_path / "sweep")
    assert swept.edges.schema.equals(ours.edges.schema)
    assert swept.firings.schema.equals(ours.firings.schema)
    assert swept.manifest["quadrature"] == again.manifest["quadrature"]
    assert swept.edges.num_rows == ours.edges.num_rows


def test_nothing_fires(ours: svdtrace.Trace) -> None:
    """Catches tables that lose their columns with their rows."""
    order, none = WriterOrder.of(3, 2), np.zeros(0, np.int32)
    number = none.astype(np.float32)
    firings = FiringList(none, none, none, none, none, pattern=number, score=number)
    rows = gather_rows(firings, [], order, SIDES, relative=True)
    assert rows.edges.relative is not None
    its = replace(rows.edges.relative, through=Ragged(np.zeros(1, np.int64), none))
    rows = replace(rows, edges=replace(rows.edges, relative=its))
    empty = none, none.astype(bool), none, []
    assert tables.edges_table(rows, *empty, order).schema.equals(ours.edges.schema)
    assert tables.firings_table(rows, *empty).schema.equals(ours.firings.schema)


@pytest.mark.full
def test_edits_take_the_slices_of_the_trace(ours: svdtrace.Trace) -> None:
    """Catches the score's slice in place of the probability's, and firings by the score."""
    edges = [row for row in ours.edges.to_pylist() if row["writer_head"] is not None and row["side"] == "dest"]
    edge = max(edges, key=lambda row: row["weight"])
    name = "{writer}:{layer}.{head}@{dest}:{src}/dest".format(**edge)
    config = svdtrace.TraceConfig(method="relative")
    settings = svdtrace.InterventionConfig(method="exact", where="local", direction="ablate", reads="side")
    found = svdtrace.intervene(small_model(), small_prompts(6, seed=4), [name], settings, tracing=config)
    wanted = {name: edge[name] for name in ("layer", "head", "dest", "src")}
    there = {row["prompt"]: row for row in ours.firings.to_pylist() if wanted.items() <= row.items()}
    edited = {row["prompt"]: row for row in found.table.to_pylist() if row["edited"]}
    assert edited.keys() == there.keys()
    truth = oracle.prepare(*oracle_model(small_model()), "folded")
    for prompt, row in edited.items():
        acts = oracle.forward(truth.params, truth.config, small_prompts(6, seed=4)[prompt].tokens)
        head = oracle.Head(truth, acts, tuple(wanted.values()))
        writer = oracle.Writer(edge["writer"], "head", edge["writer_layer"], edge["writer_head"])
        along = oracle.signal_projector(truth.svd, head.firing, there[prompt]["slice"], "dest")
        signal = oracle.written(truth.params, acts, writer, head.dest) @ along
        signal = (signal - signal.mean()) / acts["ln1_scale"][head.layer, head.dest]
        after = head.scale * (head.q - signal @ head.A[:-1]) @ head.k[head.src]
        assert abs(row["score_after"] - after) <= 2 * head.score_bound()


def test_float32_stays_within_its_bounds(ours: svdtrace.Trace) -> None:
    """Decisions that are not flagged are float64's; contributions lie within section 14.4's bound."""
    truth = oracle.relative_trace(*oracle_model(small_model()), small_prompts(6, seed=4), {})
    tied = {tuple(row[name] for name in FIRING) for row in ours.firings.to_pylist() if row["near_tie"]}
    sides = {tuple(row[name] for name in (*FIRING, "side")) for row in ours.edges.to_pylist() if row["near_tie"]}
    edges = by_key(ours.edges.to_pylist(), EDGE)

    def decided(rows: dict[tuple, Any]) -> dict[tuple, Any]:
        return {key: row for key, row in rows.items() if key[:5] not in tied and key[:6] not in sides}

    mine, true = decided(edges), decided(by_key(truth.edges, EDGE))
    assert mine.keys() == true.keys()
    assert len(true) >= 0.5 * len(truth.edges)
    for key, row in true.items():
        assert abs(mine[key]["weight"] - row["weight"]) <= truth.details[key[:5]][row["side"]]["bound"]
        # With the slice known, it is far less that rounds.
        assert abs(mine[key]["weight"] - row["weight"]) <= 1e-5
    assert ours.manifest["near_ties"]["edges"] == ours.edges.filter(ours.edges["near_tie"]).num_rows


def test_cuts_near_a_tie_are_those_that_the_method_names() -> None:
    """Catches flags by a larger bound than section 14.4's: of norms alone, of every vector, of the constant."""
    # Wide enough that what a writer wrote mostly goes by the few vectors that are read.
    model, prompts = small_model(d_model=48, n_heads=4, std=0.5), small_prompts(5, seed=4)
    ours = svdtrace.trace(model, prompts, svdtrace.TraceConfig(method="relative"))
    truth = oracle.relative_trace(*oracle_model(model), prompts, {})
    slices = {tuple(row[name] for name in FIRING): row["slice"] for row in ours.firings.to_pylist()}
    flags = {tuple(row[name] for name in (*FIRING, "side")): row["near_tie"] for row in ours.edges.to_pylist()}
    told: Counter = Counter()
    for key, details in truth.details.items():
        if slices[key] != details["slice"].members:
            continue
        for side in SIDES:
            found, bound = details[side]["found"], details[side]["bound"]
            # Values are off by far less than their bounds, which decides what lies just at one.
            near, far = (
                oracle.relative_choice(details["head"], found, oracle.RELATIVE, bound * factor).near_tie
                for factor in (0.98, 1.02)
            )
            if near == far and (*key, side) in flags:
                assert flags[*key, side] == near
                told[side, near] += 1
    assert all(told[side, True] > 2 < told[side, False] for side in SIDES)


@pytest.fixture(scope="module")
def until() -> oracle.Trace:
    settings = {"select": "until", "threshold": "dynamic", "tau": 1.0}
    return oracle.relative_trace(*oracle_model(small_model()), small_prompts(4), settings)


def test_what_is_taken_sums_up(until: oracle.Trace) -> None:
    """Of the truth itself: writers sum to Σ P_k on both sides, drops to p_j − p_end, a writer's parts to its value."""
    checked = 0
    for details in until.details.values():
        head, members = details["head"], details["slice"].members
        total = head.products[members].sum()
        assert abs(head.products.sum() - (head.pattern - 1 / (head.dest + 1))) <= 1e-12
        for side in ("dest", "src"):
            found, chosen = details[side]["found"], details[side]["chosen"]
            assert abs(sum(each.value for each in found) - total) <= 1e-12
            for each in found:
                assert abs(each.value) <= head.M[head.src] * np.ptp(each.row) + 1e-12
            assert abs(sum(chosen.drops.values()) - (head.pattern - chosen.end)) <= 1e-12
            checked += len(chosen.candidates)
    assert checked > 100


def test_taking_writers_over_every_vector_is_an_edit() -> None:
    """Catches a row that is not what the writer puts into the scores: q, or every key, without the writers taken."""
    model, prompts = small_model(), small_prompts(2)
    ready = oracle.prepare(*oracle_model(model), "folded")
    for prompt in prompts:
        acts = oracle.forward(ready.params, ready.config, prompt.tokens)
        settings = oracle.RELATIVE | {"select": "until", "threshold": "dynamic"}
        for firing in oracle.relative_firings(acts, settings, prompt.last):
            head = oracle.Head(ready, acts, firing)
            every = range(head.rank)
            for side in ("dest", "src"):
                found = oracle.relative_candidates(head, side, every, settings)
                chosen = oracle.relative_choice(head, found, settings, 0.0)
                q, k = head.q.copy(), head.k.copy()
                for c in chosen.candidates:
                    if side == "dest":
                        q -= head.alpha(found[c].writer, side, head.dest)
                    else:
                        k -= np.stack([head.alpha(found[c].writer, side, t) for t in range(head.dest + 1)])
                scores = head.scale * k @ q
                power = np.exp(scores - scores.max())
                assert abs(power[head.src] / power.sum() - chosen.end) <= 1e-10
