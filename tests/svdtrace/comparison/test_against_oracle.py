"""Every weight, fall and count of a comparison against the slow truth, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import oracle
import pytest
from oracle import removals
from oracle_model import oracle_model

import gpt2jax
import svdtrace
from svdtrace.comparison.removing import FALLS, METHODS
from svdtrace.prompts import Prompt

FIRING = ("prompt", "layer", "head", "dest", "src")
SMALL = gpt2jax.GPT2Config(n_layers=3, n_heads=2, d_model=8, d_mlp=12, n_ctx=12, d_vocab=17)
STORED = float(np.finfo(np.float32).eps)
"""Tables hold float32."""
CLOSE = 1e-10
"""Of float64 sums of terms that are at most of the order of 100."""


def small_model(**changes: Any) -> gpt2jax.Model:
    return gpt2jax.random_model(replace(SMALL, **changes), jax.random.key(3), std=0.8, biases=0.3)


def small_prompts(count: int) -> list[Prompt]:
    rng = np.random.default_rng(0)
    lengths = [7 + 2 * (place % 2) for place in range(count)]
    tokens = [tuple(rng.integers(0, SMALL.d_vocab, length).tolist()) for length in lengths]
    return [Prompt(id=None, tokens=each, strings=tuple(map(str, each)), roles={}) for each in tokens]


def compared(model: gpt2jax.Model, prompts: list[Prompt], **settings: Any) -> int:
    """Hold both tables against the oracle; how many effects there are."""
    config = svdtrace.TraceConfig(dtype="float64", **settings)
    # In float64 positions are 64-bit and tokens are not, of which strict promotion complains.
    with jax.numpy_dtype_promotion("standard"):
        ours = svdtrace.compare(model, prompts, config, draws=3)
    truth = oracle.prepare(*oracle_model(model), config.processing)
    acts = [oracle.forward(truth.params, truth.config, prompt.tokens) for prompt in prompts]
    rule = {"threshold": config.threshold, "skip_first": True}
    effects = {(*(row[name] for name in FIRING), row["side"], row["writer"]): row for row in ours.effects.to_pylist()}
    counts = {(*(row[name] for name in FIRING), row["side"]): row for row in ours.removals.to_pylist()}
    expected = {
        (place, *firing): removals.Edited(oracle.Head(truth, acts[place], firing))
        for place, prompt in enumerate(prompts)
        for firing in oracle.relative_firings(acts[place], rule, oracle.last_traced(prompt))
        if acts[place]["scores"][firing] >= 0
    }
    assert counts.keys() == {(*firing, side) for firing in expected for side in METHODS}
    for firing, edited in expected.items():
        for side in METHODS:
            mine = counts.pop((*firing, side))
            weights = _effects(effects, firing, side, edited)
            _counts(mine, edited, side, weights, oracle.threshold_at(config.threshold, firing[3]))
    assert not effects
    return ours.effects.num_rows


def _effects(effects: dict, firing: tuple, side: str, edited: removals.Edited) -> dict[str, list[float]]:
    members = oracle.choose_slice(edited.head.products, 0 * edited.head.products, 1.0).members
    found: dict[str, list[float]] = {name: [] for name in METHODS[side]}
    for writer in removals.candidates(edited.head, side):
        row = effects.pop((*firing, side, writer.name))
        weights = removals.weights(edited, side, writer)
        true = weights | removals.falls(edited, side, writer, members)
        assert true.keys() == {*METHODS[side], *FALLS[side]}
        assert all(row[name] is None for name in {"own", "fall_at_src", "fall_to_mean"} - true.keys())
        for name, value in true.items():
            assert abs(row[name] - value) <= STORED * abs(value) + CLOSE, (firing, side, writer.name, name)
        for name in found:
            found[name].append(weights[name])
    return found


def _counts(row: dict, edited: removals.Edited, side: str, weights: dict[str, list[float]], theta: float) -> None:
    head = edited.head
    rows = [edited.row(side, writer) for writer in removals.candidates(head, side)]
    if theta * (head.dest + 1) <= 1:
        assert row["best"] is row["random"] is row["relative"] is None
        return
    best = removals.fewest(head.scores, rows, head.src, theta)
    assert row["best"] == best
    assert row["best_proven"] == (best is not None and best <= 3)
    for name, values in weights.items():
        order = np.argsort(-np.asarray(values), kind="stable")
        # Where attention saturates its gradient is rounding, and so is the order of writers by it.
        if np.min(-np.diff(np.asarray(values)[order])) <= CLOSE:
            continue
        assert row[name] == removals.needed(head.scores, rows, head.src, theta, order.tolist()), name
    assert best <= row["random"] <= len(rows)


@pytest.mark.whole
def test_every_number_equals_the_oracles() -> None:
    """Catches scales let go, rows of the slice, the wrong key, gradients without LayerNorm's own."""
    assert compared(small_model(), small_prompts(2), threshold="dynamic", processing="raw") > 400


@pytest.mark.full
@pytest.mark.parametrize(
    "changes", [{"n_heads": 1}, {"n_heads": 8, "n_layers": 2}, {"scale_attn_by_inverse_layer_idx": True}, {}], ids=str
)
def test_awkward_models(changes: dict[str, Any]) -> None:
    assert compared(small_model(**changes), small_prompts(3))
