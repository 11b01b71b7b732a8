"""Models with random weights: for tests, for benchmarks, and as the start of training."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from gpt2jax.config import GPT2Config
from gpt2jax.params import Blocks, LayerNorm, Model, Params

SHARED_DRAWS = 2**20


def random_model(config: GPT2Config, key: Key[Array, ""], *, std: float = 0.02, biases: float = 0.0) -> Model:
    """A model with normally distributed weights and a tied unembedding.

    Args:
        key: a `jax.random.key`.
        std: standard deviation of the weights; what writes into the residual gets `std / sqrt(2 n_layers)`
            (Radford et al. 2019, section 2.3).
        biases: standard deviation of all biases, and of the LayerNorm gains around 1.
    """
    layers, heads, d, h, e = config.n_layers, config.n_heads, config.d_model, config.d_head, config.d_mlp
    keys = iter(jax.random.split(key, 32))
    written = std / (2 * layers) ** 0.5

    def normal(shape: tuple[int, ...], deviation: float) -> Array:
        return jnp.asarray(deviation * _drawn(next(keys), shape))

    def norm(shape: tuple[int, ...]) -> LayerNorm:
        return LayerNorm(w=1 + normal(shape, biases), b=normal(shape, biases))

    blocks = Blocks(
        ln1=norm((layers, d)),
        W_Q=normal((layers, heads, d, h), std),
        b_Q=normal((layers, heads, h), biases),
        W_K=normal((layers, heads, d, h), std),
        b_K=normal((layers, heads, h), biases),
        W_V=normal((layers, heads, d, h), std),
        b_V=normal((layers, heads, h), biases),
        W_O=normal((layers, heads, h, d), written),
        b_O=normal((layers, d), biases),
        ln2=norm((layers, d)),
        W_in=normal((layers, d, e), std),
        b_in=normal((layers, e), biases),
        W_out=normal((layers, e, d), written),
        b_out=normal((layers, d), biases),
    )
    params = Params(
        W_E=normal((config.d_vocab, d), std), W_pos=normal((config.n_ctx, d), std), blocks=blocks, ln_final=norm((d,))
    )
    return Model(config=config, params=params)


def _drawn(key: Key[Array, ""], shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers: `jax.random.normal`'s for this key and shape."""
    size = math.prod(shape)
    # A number hangs on its key and place alone, so that small shapes can share one program.
    room = max(size, 1 << (size - 1).bit_length()) if size < SHARED_DRAWS else size
    return np.asarray(jax.random.normal(key, (room,), jnp.float32))[:size].reshape(shape)
