"""Beyond the paper: parts of a reader, a recomputed LayerNorm, edits that flow on, other replacements; and laws."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import oracle
import oracle.interventions as loops
import pytest
from hypothesis import given
from hypothesis import strategies as st
from interventions_check import SETS, TRACING, check, edges_of
from oracle_model import oracle_model

import gpt2jax
from svdtrace.config import TraceConfig
from svdtrace.interventions.intervening import intervene
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.interventions.signals import Sending, drawn, scaled, signals
from svdtrace.prompts import Prompt

CHAIN = "0.1:1.1@3:1/dest,1.1:2.1@3:1/dest"
# One writer at one token that a reader reads as a query and as a key.
BOTH_SIDES = "0.0:2.1@1:1/src,0.0:2.1@1:1/dest,0.0:1.1@1:1/dest,0.0:1.1@1:1/src"


@pytest.fixture(autouse=True)
def _indices_and_floats_of_64_bits():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def truth(model: gpt2jax.Model) -> oracle.Model:
    return oracle.prepare(*oracle_model(model), "folded")


@pytest.mark.parametrize(
    ("settings", "options", "sets"),
    [
        ({"reads": "side", "method": "exact"}, {"parts": "side"}, SETS[:2]),
        ({"reads": "query", "method": "exact"}, {"parts": "Q"}, SETS[:2]),
        ({"reads": "key", "method": "paper"}, {"parts": "K"}, SETS[:2]),
        ({"norm": "recomputed"}, {"norm": "recomputed"}, SETS[:2]),
        ({"flow": True}, {"flow": True}, [CHAIN]),
        ({"flow": True, "norm": "recomputed"}, {"flow": True, "norm": "recomputed"}, [CHAIN]),
        ({"reads": "side", "method": "joint"}, {"parts": "side"}, [BOTH_SIDES, CHAIN]),
        ({"method": "exact"}, {}, [CHAIN]),
    ],
)
def test_variants_are_the_oracles(
    model: gpt2jax.Model, prompts: list[Prompt], truth: oracle.Model, settings: dict, options: dict, sets: list[str]
):
    config = InterventionConfig(where="local", direction="ablate", **settings)
    assert check(intervene(model, prompts, sets, config, tracing=TRACING), truth, prompts, config, **options)


@pytest.mark.parametrize("norm", ["held", "recomputed"])
def test_a_set_has_no_order(model: gpt2jax.Model, prompts: list[Prompt], norm: str):
    """Catches a group whose signal goes to what its first edge reaches: any order of naming gives the same rows."""
    config = InterventionConfig(where="local", method="joint", reads="side", norm=norm, control="norm")  # type: ignore
    named = BOTH_SIDES.split(",")
    found = intervene(model, prompts, [named, named[::-1], named[2:] + named[:2]], config, tracing=TRACING)
    kept = [name for name in found.table.column_names if name not in ("edges", "seed")]
    first, *others = (
        found.table.filter(np.asarray(found.table["edges"].to_pylist()) == ",".join(each)).select(kept)
        for each in (named, named[::-1], named[2:] + named[:2])
    )
    assert first.num_rows
    assert any(first["edited"].to_pylist())
    assert all(each.equals(first) for each in others)


def test_a_firing_without_a_slice_is_not_edited(model: gpt2jax.Model, prompts: list[Prompt]):
    """Catches an edit of nothing that counts as one: a head with W_Q = 0 attends evenly, with scores of 0."""
    blocks = model.params.blocks
    still = {name: getattr(blocks, name).at[2, 1].set(0) for name in ("W_Q", "b_Q")}
    model = model.replace(params=model.params.replace(blocks=blocks.replace(**still)))
    tracing = TraceConfig(threshold=0.2, dtype="float64")
    found = intervene(model, prompts, ["0.1:2.1@3:1/dest", "0.1:1.1@3:1/dest"], tracing=tracing)
    rows = found.table.to_pylist()
    of_still = [row for row in rows if ":2.1@" in row["edges"]]
    assert all(row["pattern_before"] == pytest.approx(0.25) and row["score_before"] == 0 for row in of_still)
    assert not any(row["edited"] for row in of_still)
    for name in ("logit_difference", "score", "pattern"):
        assert all(row[f"{name}_after"] == row[f"{name}_before"] for row in of_still)
    assert {row["edges"]: row["prompts"] for row in found.summary().to_pylist()}["0.1:2.1@3:1/dest"] == 0


def test_edits_that_flow_on_differ_along_a_chain(model: gpt2jax.Model, prompts: list[Prompt]):
    """Catches a reader that starts from its clean input all the same, or one that is never held."""
    after = [
        intervene(model, prompts, [CHAIN], InterventionConfig(where="local", flow=flow), tracing=TRACING)
        .table["score_after"]
        .to_pylist()
        for flow in (False, True)
    ]
    assert after[0] == after[1] == [None] * len(after[0]), "a set of two firings shows no score"
    kl = [
        intervene(model, prompts, [CHAIN], InterventionConfig(where="local", flow=flow), tracing=TRACING).measures["kl"]
        for flow in (False, True)
    ]
    assert not np.allclose(*(each.to_numpy() for each in kl))


@pytest.mark.parametrize("method", ["paper", "exact"])
def test_the_mean_takes_the_signals_place(
    model: gpt2jax.Model, prompts: list[Prompt], truth: oracle.Model, method: str
):
    name = SETS[0]
    edges = edges_of(name)
    acts = [oracle.forward(truth.params, truth.config, prompt.tokens) for prompt in prompts]
    present = [loops.present(truth, a, p, edges, {"threshold": 0.3})[0] for a, p in zip(acts, prompts, strict=True)]
    written = [
        loops.written(truth.params, a, loops.writer_of(edges[0]["writer"]), each[0][2])
        for a, each in zip(acts, present, strict=True)
        if each is not None
    ]
    assert len(written) > 1
    config = InterventionConfig(method=method, replacement="mean", where="global", direction="ablate")
    found = intervene(model, prompts, [name], config, tracing=TRACING)
    assert check(found, truth, prompts, config, replaced=[np.mean(written, axis=0)])


def test_resampling_takes_another_prompts_output(model: gpt2jax.Model, prompts: list[Prompt], truth: oracle.Model):
    edges = edges_of(SETS[0])
    config = InterventionConfig(replacement="resample", where="global", direction="ablate", seed=3)
    found = intervene(model, prompts, [SETS[0]], config, tracing=TRACING).table.to_pylist()
    acts = [oracle.forward(truth.params, truth.config, prompt.tokens) for prompt in prompts]
    present = [loops.present(truth, a, p, edges, {"threshold": 0.3})[0] for a, p in zip(acts, prompts, strict=True)]
    here = [place for place, each in enumerate(present) if each is not None]
    taken = []
    for place in here:
        possible = {}
        for other in here:
            y = loops.written(truth.params, acts[other], loops.writer_of(edges[0]["writer"]), present[other][0][2])
            row = loops.intervene(
                truth, prompts[place], edges, "global", "ablate", "paper", settings={"threshold": 0.3}, replaced=[y]
            )
            possible[other] = row["pattern_after"]
        near = [
            other
            for other, value in possible.items()
            if value == pytest.approx(found[place]["pattern_after"], abs=1e-6)
        ]
        assert len(near) == 1
        taken += near
    assert sorted(taken) == here
    assert all(a != b for a, b in zip(taken, here, strict=True))


@pytest.mark.parametrize("side", ["dest", "src"])
def test_an_exact_edit_of_one_side_lowers_the_slice_by_the_contribution(
    model: gpt2jax.Model, prompts: list[Prompt], truth: oracle.Model, side: str
):
    """The law of METHOD.md, section 10: with the other side held, Σ over S of p_k falls by exactly c_w."""
    name = f"0.1:2.1@4:1/{side}"
    (edge,) = edges_of(name)
    held = 0
    for prompt in prompts:
        acts = oracle.forward(truth.params, truth.config, prompt.tokens)
        (each,) = loops.present(truth, acts, prompt, [edge], {"threshold": 0.3})
        if each is None:
            continue
        firing, members = each
        weights = {
            c.writer.name: c.value
            for c in oracle.contributions(truth.params, truth.config, acts, truth.svd, firing, members, "exact", side)
        }
        sending = _sending_of(model, truth, acts, edge, firing, members, side)
        delta = signals(sending, "exact", 0.0, np.zeros(1, int))[0, 0]
        layer, head, dest, src = firing
        x = {"dest": acts["ln1_x"][layer, dest].copy(), "src": acts["ln1_x"][layer, src].copy()}
        before = _over(truth, firing, members, x)
        token = dest if side == "dest" else src
        x[side] -= delta / acts["ln1_scale"][layer, token]
        # Roundings of float64 in sums of d + h terms, each at most as large as what is summed.
        size = truth.svd.S[layer, head].sum() * (np.linalg.norm(x["dest"]) + 1) * (np.linalg.norm(x["src"]) + 1)
        bound = 64 * np.finfo(np.float64).eps * len(delta) * size
        assert before - _over(truth, firing, members, x) == pytest.approx(weights[edge["writer"]], abs=bound)
        held += 1
    assert held


def _sending_of(model: Any, truth: oracle.Model, acts: Any, edge: Any, firing: Any, members: Any, side: str) -> Sending:
    layer, head, dest, src = firing
    token = dest if side == "dest" else src
    inside = np.zeros((1, 1, truth.svd.S.shape[-1]), bool)
    inside[0, 0, members] = True
    vectors = (truth.svd.U if side == "dest" else truth.svd.V)[layer, head]
    return Sending(
        writer=np.asarray([0]),
        vectors_of=np.asarray([0]),
        vectors=vectors[None],
        token=np.asarray([[token]]),
        members=inside,
        written=loops.written(truth.params, acts, loops.writer_of(edge["writer"]), token)[None, None],
    )


def _over(truth: oracle.Model, firing: Any, members: list[int], x: dict[str, np.ndarray]) -> float:
    """Σ_{k∈S} p_k of what is read."""
    U, S, V = (part[firing[0], firing[1]] for part in truth.svd[:3])
    rows = {side: np.append(value, 1.0) for side, value in x.items()}
    return sum(S[k] * (rows["dest"] @ U[:, k]) * (rows["src"] @ V[:, k]) for k in members)


@pytest.mark.full
def test_edits_in_one_program_are_those_made_one_by_one(model: gpt2jax.Model, prompts: list[Prompt]):
    """In float32: the same values but for the rounding of sums of d_model terms over three layers."""
    sets = SETS[:2]
    tracing = TraceConfig(threshold=0.3, batch_size=len(prompts))
    together = intervene(model, prompts, sets, tracing=tracing).table.to_pylist()
    alone = [row for name in sets for row in intervene(model, prompts, [name], tracing=tracing).table.to_pylist()]
    by_key = {tuple(row[key] for key in ("prompt", "edges", "where", "direction")): row for row in alone}
    bound = float(3 * 24 * np.finfo(np.float32).eps)
    for row in together:
        other = by_key[tuple(row[key] for key in ("prompt", "edges", "where", "direction"))]
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], abs=bound * max(1.0, abs(value)), rel=0), name
            else:
                assert value == other[name], name


@given(st.data())
def test_controls_draw_outside_the_slice_without_replacement(data: st.DataObject):
    size = data.draw(st.integers(1, 6))
    members = np.asarray(
        data.draw(st.lists(st.lists(st.booleans(), min_size=size, max_size=size), min_size=1, max_size=4))
    )
    rank = np.asarray(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    members &= rank
    place = np.asarray(data.draw(st.lists(st.integers(0, 9), min_size=len(members), max_size=len(members))))
    chosen, short = drawn(members, rank, place, "a:1.0@2:1/dest", data.draw(st.integers(0, 5)))
    outside = (~members & rank).sum(axis=1)
    assert not (chosen & members).any()
    assert not (chosen & ~rank).any()
    np.testing.assert_array_equal(chosen.sum(axis=1), np.minimum(members.sum(axis=1), outside))
    np.testing.assert_array_equal(short, members.sum(axis=1) > outside)


def test_draws_depend_on_prompt_edge_and_seed_alone():
    members, rank = np.eye(40, dtype=bool)[:6], np.ones(40, bool)
    whole, _ = drawn(members, rank, np.arange(6), "edge", 1)
    part, _ = drawn(members[[4, 2]], rank, np.asarray([4, 2]), "edge", 1)
    np.testing.assert_array_equal(part, whole[[4, 2]])
    for name, seed in (("edge", 2), ("other", 1)):
        assert not np.array_equal(drawn(members, rank, np.arange(6), name, seed)[0], whole)


@given(st.integers(0, 2**20))
def test_what_edges_share_is_taken_once(seed: int):
    """`joint` leaves nothing of y in the span of the slices together; two equal edges take what one takes."""
    rng = np.random.default_rng(seed)
    vectors = np.stack([np.linalg.qr(rng.normal(size=(9, 3)))[0] for _ in range(2)])
    vectors[1, :-1, 0] = vectors[0, :-1, 0]
    vectors[:, :-1] -= vectors[:, :-1].mean(axis=1, keepdims=True)
    y = rng.normal(size=8)
    y -= y.mean()
    members = rng.random((2, 1, 3)) < 0.7
    members[:, :, 0] = True
    sending = Sending(
        writer=np.asarray([0, 0]),
        vectors_of=np.asarray([0, 1]),
        vectors=vectors,
        token=np.asarray([[2], [2]]),
        members=members,
        written=np.stack([y, y])[:, None],
    )
    delta = signals(sending, "joint", 0.0, np.zeros(2, int))[:, 0]
    assert not delta[1].any()
    columns = np.concatenate([vectors[n, :-1][:, members[n, 0]] for n in range(2)], axis=1)
    onto = loops.basis(columns)
    condition = 1 / min(1.0, np.linalg.svd(columns)[1][: onto.shape[1]].min()) ** 2
    bound = 1e3 * np.finfo(np.float64).eps * condition
    np.testing.assert_allclose(delta[0], onto @ (onto.T @ y), atol=bound, rtol=0)
    np.testing.assert_allclose(columns.T @ (y - delta[0]), 0, atol=bound)


def test_a_scaled_control_has_the_signals_norm():
    rng = np.random.default_rng(0)
    delta, own = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))
    delta[0, 0] = 0
    norm = np.linalg.norm(scaled(delta, own), axis=-1)
    expected = np.linalg.norm(own, axis=-1)
    expected[0, 0] = 0
    np.testing.assert_allclose(norm, expected, rtol=8 * np.finfo(np.float64).eps)
