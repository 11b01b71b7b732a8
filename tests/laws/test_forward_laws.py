"""What holds of the forward pass whatever the weights."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import gpt2jax
from laws.examples import CONFIG, EPS, SHORT_HEAD, Drawn, few, models, random_tokens, seeds
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.method.decomposition import decompose, gauged

POINTS = {
    **{f"blocks.{layer}.hook_resid_pre": ("blocks.*.hook_resid_pre", layer) for layer in range(CONFIG.n_layers)},
    **{f"blocks.{layer}.hook_resid_mid": ("blocks.*.hook_resid_mid", layer) for layer in range(CONFIG.n_layers)},
    **{f"blocks.{layer}.hook_resid_post": ("blocks.*.hook_resid_post", layer) for layer in range(CONFIG.n_layers)},
    "final": ("blocks.*.hook_resid_post", CONFIG.n_layers - 1),
}
# One set of taps for every law, so that one program serves them all.
TAPS = (
    "blocks.*.hook_resid_pre",
    "blocks.*.hook_resid_mid",
    "blocks.*.hook_resid_post",
    "blocks.*.attn.hook_q",
    "blocks.*.attn.hook_k",
    "blocks.*.attn.hook_z",
    "blocks.*.attn.hook_attn_scores",
    "blocks.*.attn.hook_pattern",
)
CAUSAL = np.tril(np.ones((random_tokens(0).shape[1],) * 2, bool))


def run(model: gpt2jax.Model, tokens: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    out = gpt2jax.forward(model, tokens, taps=TAPS)
    return np.asarray(out.logits), {name.removeprefix("blocks.*."): np.asarray(tap) for name, tap in out.taps.items()}


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    return np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))


def logit_bound(model: gpt2jax.Model) -> float:
    """5e-5 of |x| |W_U|; what the unembedding reads has norm √d before gain and bias."""
    final, W_U = model.params.ln_final, model.params.W_E
    size = np.sqrt(CONFIG.d_model) * float(jnp.max(jnp.abs(final.w))) + float(jnp.linalg.norm(final.b))
    return ACTIVATION_ERROR * size * float(jnp.max(jnp.linalg.norm(W_U, axis=-1)))


@pytest.mark.parametrize("processing", ["raw", "folded"])
@few
@given(drawn=models, seed=seeds)
def test_contributions_sum_to_the_residual(processing: str, drawn: Drawn, seed: int) -> None:
    """Catches a component that is forgotten, counted twice, or of the wrong layer at some point of the residual."""
    model = gpt2jax.fold(drawn.model()) if processing == "folded" else drawn.model()
    tokens = random_tokens(seed)
    taps = run(model, tokens)[1]
    z = np.linalg.norm(taps["attn.hook_z"], axis=-1)
    heads = np.sum(z * np.linalg.norm(np.asarray(model.params.blocks.W_O), axis=(-2, -1))[:, None, None], axis=(0, 3))
    for at, (name, layer) in POINTS.items():
        parts = gpt2jax.residual_contributions(model, tokens, at=at)
        values = np.asarray(parts.values, np.float64)
        assert values.shape[1] == len(parts.labels)
        error = np.linalg.norm(values.sum(axis=1) - taps[name.removeprefix("blocks.*.")][layer], axis=-1)
        # A sum of as many parts, those of heads being sums over d_head themselves, added as one product over all heads.
        steps = len(parts.labels) + CONFIG.n_heads * CONFIG.d_head
        assert np.all(error <= EPS * steps * (np.linalg.norm(values, axis=-1).sum(axis=1) + heads))


@pytest.mark.parametrize("processing", ["raw", "folded"])
@few
@given(drawn=models, seed=seeds)
def test_products_sum_to_the_score(processing: str, drawn: Drawn, seed: int) -> None:
    """Catches a gauge that loses a bias, a singular value or a sign: Σ_k p_k = q·k = score / attn_scale."""
    model = gpt2jax.fold(drawn.model()) if processing == "folded" else drawn.model()
    tokens = random_tokens(seed)
    decomposition = decompose(model)
    own, gauge = run(model, tokens)[1], run(gauged(model, decomposition), tokens)[1]
    products = np.einsum("lbinh,lbjnh->lbnijh", gauge["attn.hook_q"], gauge["attn.hook_k"])
    score = own["attn.hook_attn_scores"] * np.sqrt(CONFIG.d_head)
    root = np.sqrt(np.asarray(decomposition.S[..., 0]))[:, None, None]
    q, k = (np.linalg.norm(gauge[f"attn.hook_{each}"], axis=-1) + root for each in "qk")
    bound = ACTIVATION_ERROR * np.einsum("lbin,lbjn->lbnij", q, k)
    # Bounds of the two sides of the equation, each made with its own run of the model.
    assert np.all((np.abs(products.sum(axis=-1) - score) <= 2 * bound)[..., CAUSAL])
    dots = np.einsum("lbinh,lbjnh->lbnij", own["attn.hook_q"], own["attn.hook_k"])
    sizes = np.einsum("lbin,lbjn->lbnij", *(np.linalg.norm(own[f"attn.hook_{each}"], axis=-1) for each in "qk"))
    assert np.all((np.abs(dots - score) <= EPS * (CONFIG.d_head + 3) * sizes)[..., CAUSAL])


@pytest.mark.parametrize("short", [0, 1, 5, 8])
@few
@given(drawn=models, seed=seeds)
def test_products_beyond_the_rank_are_exactly_zero(short: int, drawn: Drawn, seed: int) -> None:
    """Catches rounding noise that passes for singular vectors, and a rank that is not found."""
    model = replace(drawn, rank=short).model()
    decomposition = decompose(model)
    layer, head = SHORT_HEAD
    A = np.concatenate([model.params.blocks.W_Q[layer, head], model.params.blocks.b_Q[None, layer, head]])
    rank = np.linalg.matrix_rank(A, tol=np.linalg.norm(A) * len(A) * EPS) if np.any(A) else 0
    assert int(decomposition.within_rank()[layer, head].sum()) == rank
    taps = run(gauged(model, decomposition), random_tokens(seed))[1]
    beyond = ~np.asarray(decomposition.within_rank())
    for each in "qk":
        assert not np.any(np.moveaxis(taps[f"attn.hook_{each}"], 3, 1)[beyond.nonzero()[:2]][..., rank:])


@few
@given(drawn=models, seed=seeds)
def test_the_singular_gauge_changes_no_logit(drawn: Drawn, seed: int) -> None:
    """Catches a gauge that another part of the model can see."""
    model = drawn.model()
    tokens = random_tokens(seed)
    own, gauge = run(model, tokens)[0], run(gauged(model, decompose(model)), tokens)[0]
    assert np.max(np.abs(own - gauge)) <= 2 * logit_bound(model)


@few
@given(drawn=models, seed=seeds)
def test_raw_and_folded_agree(drawn: Drawn, seed: int) -> None:
    """Catches folding that changes the model: a γ, β or bias lost, a mean kept where it is read."""
    model = drawn.model()
    tokens = random_tokens(seed)
    (raw, raw_taps), (folded, folded_taps) = run(model, tokens), run(gpt2jax.fold(model), tokens)
    # A log-probability is a logit less a mean of logits: both err.
    assert np.max(np.abs(log_probabilities(raw) - log_probabilities(folded))) <= 4 * logit_bound(model)
    scores = raw_taps["attn.hook_attn_scores"]
    size = 1 + np.max(np.abs(np.where(CAUSAL, scores, 0)), axis=-1, keepdims=True)
    # A softmax turns an error of its scores into at most as large a relative one of itself.
    assert np.all(
        np.abs(raw_taps["attn.hook_pattern"] - folded_taps["attn.hook_pattern"]) <= 2 * ACTIVATION_ERROR * size
    )
