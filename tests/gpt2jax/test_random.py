"""Random models: shapes, spread, reproducible."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gpt2jax

CONFIG = gpt2jax.GPT2Config(n_layers=2, n_heads=3, d_model=24, d_mlp=40, n_ctx=16, d_vocab=50)
L, H, D, E = CONFIG.n_layers, CONFIG.n_heads, CONFIG.d_model, CONFIG.d_mlp
SHAPES = {
    **{f"W_{name}": (L, H, D, 8) for name in "QKV"},
    **{f"b_{name}": (L, H, 8) for name in "QKV"},
    "W_O": (L, H, 8, D),
    "b_O": (L, D),
    "W_in": (L, D, E),
    "b_in": (L, E),
    "W_out": (L, E, D),
    "b_out": (L, D),
}


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return gpt2jax.random_model(CONFIG, jax.random.key(0), std=0.3, biases=0.1)


def norms(model: gpt2jax.Model) -> list[gpt2jax.LayerNorm]:
    return [model.params.blocks.ln1, model.params.blocks.ln2, model.params.ln_final]


def spread(array: jax.Array, around: float, deviation: float) -> bool:
    """Whether mean and standard deviation are within five of their own standard deviations."""
    size = array.size
    off = abs(float(jnp.mean(array)) - around), abs(float(jnp.std(array)) - deviation)
    return off[0] <= 5 * deviation / size**0.5 and off[1] <= 5 * deviation / (2 * size) ** 0.5


def test_shapes_and_spread(model: gpt2jax.Model) -> None:
    blocks, params = model.params.blocks, model.params
    for name, shape in SHAPES.items():
        array = getattr(blocks, name)
        assert (array.shape, array.dtype) == (shape, jnp.float32), name
        # What writes is smaller by √(2 layers).
        assert spread(array, 0.0, 0.1 if name[0] == "b" else 0.15 if name in ("W_O", "W_out") else 0.3), name
    assert (params.W_E.shape, params.W_pos.shape) == ((50, D), (16, D))
    assert spread(params.W_E, 0.0, 0.3)
    assert spread(params.W_pos, 0.0, 0.3)
    for norm, shape in zip(norms(model), [(L, D), (L, D), (D,)], strict=True):
        assert norm.w.shape == norm.b.shape == shape
        assert spread(norm.w, 1.0, 0.1)
        assert spread(norm.b, 0.0, 0.1)
    assert (model.processing, model.config, params.W_U, params.b_U) == ("raw", CONFIG, None, None)


def test_no_two_weights_are_the_same_draw(model: gpt2jax.Model) -> None:
    leaves = [np.asarray(leaf).ravel() for leaf in jax.tree.leaves(model.params)]
    starts = [tuple(np.round((leaf[:3] - leaf[3:6]) / (abs(leaf[0] - leaf[3]) + 1e-9), 4)) for leaf in leaves]
    assert len(set(starts)) == len(leaves)


def test_the_key_decides(model: gpt2jax.Model) -> None:
    again = gpt2jax.random_model(CONFIG, jax.random.key(0), std=0.3, biases=0.1)
    other = gpt2jax.random_model(CONFIG, jax.random.key(1), std=0.3, biases=0.1)
    assert all(map(np.array_equal, jax.tree.leaves(model), jax.tree.leaves(again)))
    assert not any(map(np.array_equal, jax.tree.leaves(model), jax.tree.leaves(other)))


def test_without_biases_as_training_starts() -> None:
    model = gpt2jax.random_model(CONFIG, jax.random.key(0))
    assert all(np.all(norm.w == 1) and np.all(norm.b == 0) for norm in norms(model))
    for name in SHAPES:
        assert np.all(getattr(model.params.blocks, name) == 0) == (name[0] == "b")
    assert spread(model.params.W_E, 0.0, 0.02)
