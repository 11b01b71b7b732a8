"""Folding: the oracle's weights, the same log-probabilities, and only what is there is folded."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from running_bound import EPS32, EPS64, close, truth
from small_model import Arrays, jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax.errors import CheckpointError


@pytest.fixture
def float64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def arrays_of(model: gpt2jax.Model) -> Arrays:
    """A folded model's arrays under the oracle's names."""
    found = {name: value for name, value in vars(model.params.blocks).items() if not name.startswith("ln")}
    found |= {name: getattr(model.params, name) for name in ("W_E", "W_pos", "W_U", "b_U")}
    return {name: np.float64(value) for name, value in found.items() if value is not None}


def fold_bounds(params: Arrays, eps: float) -> Arrays:
    """How far rounding can carry each folded parameter: (terms + 4) eps × the sum of their absolute values.

    A reader's entry is γW less its mean over d_model, a bias b + Σ_d β W; a writer's entry is less its mean; `W_U`
    loses two means, and `b_O` gains Σ over all heads of (b_V + βW_V) W_O.
    """
    p = {name: np.abs(np.float64(value)) for name, value in params.items()}
    p.setdefault("W_U", p["W_E"].T)
    p.setdefault("b_U", np.zeros(p["W_U"].shape[1]))
    (_, H, d, h), v = p["W_Q"].shape, p["W_U"].shape[1]

    def mean(array: np.ndarray, axis: int = -1) -> np.ndarray:
        return array + array.mean(axis=axis, keepdims=True)

    bounds = {}
    for name, norm in (("Q", "ln1"), ("K", "ln1"), ("V", "ln1"), ("in", "ln2")):
        heads = (slice(None), None) if norm == "ln1" else (slice(None),)
        W = p[f"W_{name}"]
        bounds[f"b_{name}"] = (d + 4) * eps * (p[f"b_{name}"] + np.sum(p[f"{norm}_b"][heads][..., None] * W, axis=-2))
        bounds[f"W_{name}"] = (d + 4) * eps * mean(p[f"{norm}_w"][heads][..., None] * W, axis=-2)
    b_V = p["b_V"] + np.einsum("ld,lndh->lnh", p["ln1_b"], p["W_V"])
    b_O = p["b_O"] + np.einsum("lnh,lnhd->ld", b_V, p["W_O"])
    bounds["b_O"] = (2 * d + H * h + 8) * eps * mean(b_O)
    bounds["b_V"] = np.zeros_like(b_V)
    for name in ("W_E", "W_pos", "W_O", "W_out", "b_out"):
        bounds[name] = (d + 4) * eps * mean(p[name])
    bounds["W_U"] = (d + v + 8) * eps * mean(mean(p["ln_final_w"][:, None] * p["W_U"], axis=0))
    bounds["b_U"] = (d + v + 8) * eps * mean(p["b_U"] + p["ln_final_b"] @ p["W_U"])
    return bounds


@pytest.mark.parametrize("tied", [False, True])
def test_every_weight_equals_the_oracles(tied: bool) -> None:
    params, config = small_model(seed=31, tied=tied)
    folded = gpt2jax.fold(jax_model(params, config))
    found, expected, bounds = arrays_of(folded), oracle.fold(params), fold_bounds(params, EPS32)
    assert (folded.processing, folded.config) == ("folded", jax_model(params, config).config)
    assert folded.params.ln_final is None
    assert (folded.params.blocks.ln1, folded.params.blocks.ln2) == (None, None)
    assert found.keys() == expected.keys() == bounds.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert close(found[name], value, bounds[name]), name


@pytest.mark.parametrize("tied", [False, True])
def test_folding_changes_no_log_probability(tied: bool, float64: None) -> None:
    """Nor any query, key, score or pattern."""
    params, config = small_model(seed=32, tied=tied)
    params = {name: np.float64(value) for name, value in params.items()}
    tokens = random_tokens(2, 5, config)
    raw, raw_bound = truth(params, config, tokens, EPS64)
    _, bound = truth(oracle.fold(params), config, tokens, EPS64, fold_bounds(params, EPS64))
    folded = gpt2jax.fold(jax_model(params, config, jnp.float64))
    sites = {"q": "hook_q", "k": "hook_k", "scores": "hook_attn_scores", "pattern": "hook_pattern"}
    out = gpt2jax.forward(folded, tokens, taps=[f"blocks.*.attn.{site}" for site in sites.values()])
    for name, site in sites.items():
        assert close(out.taps[f"blocks.*.attn.{site}"], raw[name], bound[name] + raw_bound[name]), name

    def log_probabilities(logits: np.ndarray) -> np.ndarray:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))

    off = bound["logits"] + raw_bound["logits"]
    expected = log_probabilities(raw["logits"])
    # log-softmax moves by no more than the entry and the largest entry together.
    assert close(log_probabilities(np.asarray(out.logits)), expected, off + off.max(axis=-1, keepdims=True))
    assert not np.allclose(out.logits, raw["logits"])


def test_a_folded_model_stays_as_it_is() -> None:
    params, config = small_model(seed=33)
    folded = gpt2jax.fold(jax_model(params, config))
    assert gpt2jax.fold(folded) is folded


def test_only_the_parts_that_are_there_are_folded() -> None:
    params, config = small_model(seed=34)
    model = jax_model(params, config)
    whole = gpt2jax.fold(model).params
    missing = dict.fromkeys(("ln2", "W_in", "b_in", "W_out", "b_out"))
    heads = gpt2jax.Params(W_E=None, W_pos=None, blocks=model.params.blocks.replace(**missing), ln_final=None)
    found = gpt2jax.fold(model.replace(params=heads))
    assert found.processing == "folded"
    assert (found.params.W_E, found.params.W_pos, found.params.W_U, found.params.b_U) == (None,) * 4
    for name, value in vars(found.params.blocks).items():
        if name in missing or name == "ln1":
            assert value is None
        else:
            assert np.array_equal(value, getattr(whole.blocks, name)), name
    rest = model.params.replace(blocks=gpt2jax.Blocks(**dict.fromkeys(vars(model.params.blocks))))
    found = gpt2jax.fold(model.replace(params=rest)).params
    assert all(value is None for value in vars(found.blocks).values())
    assert np.array_equal(found.W_U, whole.W_U)
    assert np.array_equal(found.W_E, whole.W_E)
    # Without the final LayerNorm there is no unembedding to fold, tied or not.
    for each in (rest, rest.replace(W_U=None, b_U=None)):
        found = gpt2jax.fold(model.replace(params=each.replace(ln_final=None))).params
        assert np.array_equal(found.W_E, whole.W_E)
        assert (found.W_U, found.b_U) == (None, None)


def test_weights_that_overflow_in_folding_are_refused():
    params, config = small_model()
    params["W_E"][:] = np.finfo(np.float32).max
    with pytest.raises(CheckpointError, match=r"folded weights are not finite: of such values W_E holds \d+; give"):
        gpt2jax.fold(jax_model(params, config))
    params, config = small_model()
    params["W_Q"][1, 0, 0, :2] = np.nan
    with pytest.raises(CheckpointError, match=r"blocks\.W_Q holds"):
        gpt2jax.fold(jax_model(params, config))
