"""Heads of special kinds, decomposed, and that decomposing ends."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpt2jax
from svdtrace.errors import ModelError
from svdtrace.method.decomposition import FLOAT32_EPS, Decomposition, decompose, query_key_factors, singular_gauge

SHAPES = {
    "d_head 1": gpt2jax.GPT2Config(n_layers=2, n_heads=6, d_model=6, d_mlp=4, n_ctx=4, d_vocab=5),
    "d_head 4": gpt2jax.GPT2Config(n_layers=1, n_heads=4, d_model=16, d_mlp=4, n_ctx=4, d_vocab=5),
}

DECOMPOSE = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import jax
import gpt2jax
from svdtrace.method.decomposition import decompose
config = gpt2jax.GPT2Config(n_layers=6, n_heads=12, d_model=384, d_mlp=8, n_ctx=4, d_vocab=5)
model = gpt2jax.random_model(config, jax.random.key(0), std=0.02, biases=0.1)
print(decompose(model).S.shape)
"""


def random_model(shape: str = "d_head 4") -> gpt2jax.Model:
    return gpt2jax.random_model(SHAPES[shape], jax.random.key(0), std=0.5, biases=0.3)


def with_heads(W_Q: np.ndarray, b_Q: np.ndarray, W_K: np.ndarray, b_K: np.ndarray) -> gpt2jax.Model:
    """The model of "d_head 4" with these heads, [head …]."""
    model = random_model()
    arrays = {
        name: jnp.asarray(each, jnp.float32)[None]
        for name, each in zip(("W_Q", "b_Q", "W_K", "b_K"), (W_Q, b_Q, W_K, b_K), strict=True)
    }
    return model.replace(params=model.params.replace(blocks=model.params.blocks.replace(**arrays)))


def from_factors(A: np.ndarray, B: np.ndarray) -> gpt2jax.Model:
    """The model with `[W_Q ; b_Q] = A`, `[W_K ; b_K] = B`, [head d_model+1 d_head]."""
    return with_heads(A[:, :-1], A[:, -1], B[:, :-1], B[:, -1])


def assert_decomposes(model: gpt2jax.Model, parts: Decomposition) -> None:
    """Orthonormal, signed, and equal to A Bᵀ, within Higham's bound of a thin QR (theorem 19.4)."""
    A, B = (np.asarray(each, np.float64) for each in query_key_factors(model.params.blocks))
    U, S, V = (np.asarray(each, np.float64) for each in (parts.U, parts.S, parts.V))
    steps = A.shape[-2] * A.shape[-1]
    error = np.linalg.norm((U * S[..., None, :]) @ np.swapaxes(V, -1, -2) - A @ np.swapaxes(B, -1, -2), axis=(-2, -1))
    size = np.linalg.norm(A, axis=(-2, -1)) * np.linalg.norm(B, axis=(-2, -1))
    assert np.all(error <= FLOAT32_EPS * steps * size)
    for vectors in (U, V):
        gram = np.swapaxes(vectors, -1, -2) @ vectors
        assert np.max(np.abs(gram - np.eye(A.shape[-1]))) <= FLOAT32_EPS * steps
    largest = np.argmax(np.abs(U), axis=-2)[..., None, :]
    assert np.all(np.take_along_axis(U, largest, axis=-2) > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_ordinary_heads(shape: str) -> None:
    """Catches a head of width 1 that falls out of the general case."""
    model = random_model(shape)
    parts = decompose(model)
    assert_decomposes(model, parts)
    assert np.all(parts.within_rank())


def test_heads_without_queries_or_keys() -> None:
    """Catches NaN vectors of a zero head, and products that it should not have."""
    model = random_model()
    blocks = model.params.blocks
    W_Q, b_Q, W_K, b_K = (np.array(getattr(blocks, name)[0]) for name in ("W_Q", "b_Q", "W_K", "b_K"))
    W_Q[1] = b_Q[1] = 0
    W_K[2] = b_K[2] = 0
    W_Q[3] = b_Q[3] = W_K[3] = b_K[3] = 0
    model = with_heads(W_Q, b_Q, W_K, b_K)
    parts = decompose(model)
    assert_decomposes(model, parts)
    assert np.asarray(parts.within_rank())[0].any(axis=-1).tolist() == [True, False, False, False]
    assert not any(np.any(np.asarray(each)[0, 1:]) for each in singular_gauge(parts))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_short_heads(rank: int) -> None:
    """Catches a rank that counts rounding noise, and noise that is read with."""
    rng = np.random.default_rng(rank)
    A = rng.normal(size=(4, 17, rank)) @ rng.normal(size=(4, rank, 4))
    model = from_factors(A, rng.normal(size=(4, 17, 4)))
    parts = decompose(model)
    assert_decomposes(model, parts)
    assert np.asarray(parts.within_rank()).sum(axis=-1).tolist() == [[rank] * 4]
    assert not any(np.any(np.asarray(each)[..., rank:]) for each in singular_gauge(parts))


def test_equal_singular_values() -> None:
    """Catches a decomposition that needs singular values to differ."""
    rng = np.random.default_rng(0)
    A, B = (np.linalg.qr(rng.normal(size=(4, 17, 4)))[0] for _ in range(2))
    model = from_factors(2 * A, 3 * B)
    parts = decompose(model)
    assert_decomposes(model, parts)
    assert np.allclose(parts.S, 6, rtol=FLOAT32_EPS * 17 * 4)


def test_of_equal_entries_the_first_is_positive() -> None:
    """Catches a sign by the last of equal entries, or by the sum of all."""
    U = np.zeros((4, 17, 4))
    U[:, :4, 0] = [0.5, -0.5, -0.5, -0.5]
    U[:, 4, 1], U[:, 5, 2], U[:, 6, 3] = -1, 1, -1
    V = np.broadcast_to(np.eye(17)[:, :4], (4, 17, 4))
    parts = decompose(from_factors(U * [8, 4, 2, 1], V))
    assert np.all(np.asarray(parts.U)[0, :, 4, 1] > 0)
    assert np.all(np.asarray(parts.V)[0, :, 1, 1] < 0)
    first = np.asarray(parts.U)[0, :, :4, 0]
    largest = np.take_along_axis(first, np.argmax(np.abs(first), axis=-1)[:, None], axis=-1)
    assert np.all(largest > 0)


@pytest.mark.parametrize(("last", "counts"), [(1.5, True), (0.5, False)])
def test_the_edge_of_the_rank(last: float, counts: bool) -> None:
    """Catches another limit than σ_0 (d+1) eps."""
    S = jnp.asarray([[[3.0, last * 3.0 * 17 * FLOAT32_EPS]]])
    parts = Decomposition(U=jnp.zeros((1, 1, 17, 2)), S=S, V=jnp.zeros((1, 1, 17, 2)))
    assert parts.within_rank().tolist() == [[[True, counts]]]


def test_a_model_without_heads_is_refused() -> None:
    model = random_model()
    model = model.replace(params=model.params.replace(blocks=model.params.blocks.replace(W_Q=None)))
    with pytest.raises(ModelError, match="query and key weights"):
        decompose(model)


@pytest.mark.whole
def test_ends_on_two_cores() -> None:
    """Catches two LAPACK calls that wait for each other's threads: in a process of two cores, all heads in time."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", DECOMPOSE], capture_output=True, text=True, timeout=240, env=environment, check=True
    )
    assert done.stdout.split() == ["(6,", "12,", "32)"]
