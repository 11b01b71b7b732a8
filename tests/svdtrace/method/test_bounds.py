"""Rounding bounds against what float32 does: traces of random models beside the float64 truth (METHOD.md, 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from laws.examples import CONFIG, one_batch, random_model, random_prompts
from oracle_model import oracle_model

import gpt2jax
from svdtrace.config import TraceConfig
from svdtrace.method.bounds import Read, rounding_scale
from svdtrace.method.contributions import contribute_bounded
from svdtrace.method.decomposition import FLOAT32_EPS, Decomposition
from svdtrace.method.firings import fired
from svdtrace.tracing.attribute import SIDES
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import attributed, watch
from svdtrace.tracing.prepare import prepare
from svdtrace.tracing.rows import WriterOrder

ORDER = WriterOrder.of(CONFIG.n_layers, CONFIG.n_heads)


def clustered(seed: int) -> gpt2jax.Model:
    """A model whose singular values stand in groups, nearer to each other than float32 can part, and less near."""
    model, rng, h = random_model(seed), np.random.default_rng(seed), CONFIG.d_head
    gaps = np.asarray([0, 1e-7, 1e-5, 0.3, 0.3 + 1e-6, 0.5, 0.5 + 1e-4, 0.7])[:h]
    root = np.sqrt(4 * (1 - gaps))
    shape = (CONFIG.n_layers, CONFIG.n_heads, CONFIG.d_model + 1, h)
    parts = {}
    for name in "QK":
        columns = rng.normal(size=shape)
        # Centred as folding centres, so that raw and folded weights are the same.
        columns[..., :-1, :] -= columns[..., :-1, :].mean(axis=-2, keepdims=True)
        columns = (np.linalg.qr(columns)[0] * root).astype(np.float32)
        parts |= {f"W_{name}": jnp.asarray(columns[..., :-1, :]), f"b_{name}": jnp.asarray(columns[..., -1, :])}
    blocks = model.params.blocks
    plain = blocks.ln1.replace(w=jnp.ones_like(blocks.ln1.w), b=jnp.zeros_like(blocks.ln1.b))
    return model.replace(params=model.params.replace(blocks=blocks.replace(ln1=plain, **parts)))


@dataclass
class Worst:
    """The largest error over its bound, that of the bounds themselves, and how much was held against the truth."""

    products: float = 0.0
    weights: float = 0.0
    bounds: float = 0.0
    compared: int = 0
    flagged: int = 0


def held_to_the_truth(model: gpt2jax.Model, settings: Mapping[str, Any]) -> Worst:
    config, prompts = TraceConfig(**settings, threshold=0.3), random_prompts(1)
    prepared = prepare(model, config)
    truth = oracle.trace(*oracle_model(model), prompts, {**settings, "threshold": 0.3}).details
    observed = watch(prepared, one_batch(prompts), config)
    firings = fired(pairs_of(prepared, observed, config), config)
    worst, scale = Worst(), np.asarray(rounding_scale(prepared.decomposition).turn)
    for layer in range(1, CONFIG.n_layers):
        for chunk in attributed(prepared, observed, firings, layer, config):
            for place in np.argwhere(chunk.row >= 0):
                row = chunk.row[tuple(place)]
                key = tuple(int(getattr(firings, name)[row]) for name in ("prompt", "layer", "head", "dest", "src"))
                if key in truth:  # whether it fires is another decision
                    turn = float(scale[key[1], key[2]].max())
                    compare(chunk, tuple(place), {**truth[key], "turn": turn}, worst)
    return worst


def compare(chunk: Any, place: tuple[int, int], true: Mapping[str, Any], worst: Worst) -> None:
    """One firing: products, the slice, contributions and edges."""
    result = chunk.result
    off = np.abs(np.asarray(result.products)[place] - true["products"])
    beyond = true["bounds"] == 0
    assert np.all(off[beyond] == 0)
    worst.products = max(worst.products, np.max(off[~beyond] / true["bounds"][~beyond], initial=0))
    members = np.flatnonzero(np.asarray(result.slices.members)[place]).tolist()
    if members != sorted(true["slice"].members):
        assert true["slice"].near_tie or bool(np.asarray(result.slices.near_tie)[place])
        worst.flagged += 1
        return
    labels = [ORDER.labels[code] for code in ORDER.codes_below(chunk.writer_layers)]
    for z, side in enumerate(SIDES):
        its = true[side]
        weight = dict(zip(labels, np.asarray(result.weight)[z][place], strict=False))
        for name, value in its["contributions"].items():
            worst.weights = max(worst.weights, abs(weight[name] - value) / its["bound"])
        worst.compared += len(its["contributions"])
        # float32 knows a gap to a few eps σ_0, about θ of it.
        bound, loose = float(np.asarray(result.bound)[z][place]), 2e-3 + true["turn"]
        worst.bounds = max(worst.bounds, abs(bound - its["bound"]) / (loose * its["bound"]))
        chosen = {labels[w] for w in np.flatnonzero(np.asarray(result.edges.chosen)[z][place])}
        if chosen != {its["found"][w].writer.name for w in its["cut"].chosen}:
            assert its["cut"].near_tie or bool(np.asarray(result.edges.near_tie)[z][place])
            worst.flagged += 1


@pytest.mark.parametrize("processing", ["raw", pytest.param("folded", marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_no_number_is_further_off_than_its_bound(kind: str, processing: str) -> None:
    """Catches a bound that leaves out how vectors turn, what a slice's edge mixes in, or what cancels; and one so wide
    that it says nothing.
    """
    model = random_model(7) if kind == "random" else clustered(7)
    worst = held_to_the_truth(model, {"method": "exact", "writers": "all", "processing": processing})
    assert worst.compared > 1000
    for ratio in (worst.products, worst.weights):
        assert 1e-4 < ratio <= 1, worst
    # Gaps as small as their own rounding give the bounds of neither.
    assert kind == "clustered" or worst.bounds <= 1, worst


@pytest.mark.full
@pytest.mark.parametrize("method", ["paper", "all"])
def test_the_bounds_hold_where_coefficients_are_signs(method: str) -> None:
    """Catches a bound without the 1 that these methods append."""
    for model in (random_model(8), clustered(8)):
        worst = held_to_the_truth(model, {"method": method})
        assert worst.compared > 200
        assert 1e-4 < worst.weights <= 1, worst


def test_how_far_vectors_turn() -> None:
    """Catches a gap to one neighbour alone, a θ beyond 1 or beyond the rank, and 0 / 0 of a head without weights."""
    S = jnp.asarray([[[4.0, 2.0, 2.0, 1e-9], [0.0, 0.0, 0.0, 0.0]]])
    U = jnp.zeros((1, 2, 9, 4))
    scale = rounding_scale(Decomposition(U=U, S=S, V=U))
    assert np.asarray(scale.turn[0, 0]) == pytest.approx([8 * FLOAT32_EPS, 1, 1, 0])
    assert np.asarray(scale.nearness[0, 0]) == pytest.approx([2 * FLOAT32_EPS, np.inf, np.inf, 0])
    assert np.asarray(scale.root[0, 0]) == pytest.approx([2, 2**0.5, 2**0.5, 0])
    assert not np.asarray(scale.turn[0, 1]).any()
    assert not np.asarray(scale.within[0, 1]).any()
    alone = Decomposition(U=U[..., :1], S=S[..., :1], V=U[..., :1])
    assert np.asarray(rounding_scale(alone).turn).tolist() == [[[0], [0]]]


def test_a_bound_by_hand() -> None:
    """Catches the mean writer instead of the largest, vectors outside S, writers above the reader, norms over S."""
    # [writer slot sv], one firing; S is the first two; the third writer stands above the reader.
    terms = jnp.asarray([[[3.0, 0.0, 4.0]], [[0.0, 1.0, 0.0]], [[50.0, 50.0, 50.0]]])
    one = jnp.ones((1,))
    read = Read(
        coefficient=jnp.asarray([[2.0, -1.0, 0.0]]),
        root=jnp.asarray([2.0, 1.0, 1.0]),
        turn=jnp.asarray([0.1, 0.5, 1.0]),
        other_read=7 * one,
        other_size=3 * one,
    )
    sizes, present = jnp.asarray([[10.0], [1.0], [99.0]]), jnp.asarray([True, True, False])
    weight, bound = contribute_bounded(terms, sizes, read, present)
    assert np.asarray(weight).tolist() == [[6.0, -1.0, -np.inf]]
    of_first = 5e-5 * 6 + 0.1 * (5 * 2 + 3 * 3) + 0.5 * 5 * 1 + 16 * FLOAT32_EPS * (2 * (10 * 2 + 7 * 3) + 10)
    assert float(bound[0]) == pytest.approx(of_first, rel=8 * FLOAT32_EPS)
