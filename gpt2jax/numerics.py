"""The numerical habits that everything shares: exact products, explicit broadcasting, and one axis alphabet.

Letters in every einsum of the project: b prompt, t token, i destination, j source, l layer, n head, w writer,
d d_model, h d_head, k singular vector, e d_mlp, v vocabulary, f firing.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

# float32 products default to bfloat16 on TPU and to TF32 on recent NVIDIA GPUs; both would break every bound that
# METHOD.md derives (its last section).
einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def aligned(x: Shaped[Array, "*own"], other: Shaped[Array, "*axes"]) -> Shaped[Array, "*ones_own"]:
    """The same with axes of length 1 in front, as many as `other` has: broadcasting spelled out, since JAX can be told
    to refuse any other (`jax_numpy_rank_promotion`).
    """
    return jnp.reshape(x, (1,) * (other.ndim - x.ndim) + x.shape)


def centre(x: Float[Array, "*axes d_model"]) -> Float[Array, "*axes d_model"]:
    """Subtract the mean over the last axis: `x C` with `C = I - 1 1ᵀ/d`."""
    return x - jnp.mean(x, axis=-1, keepdims=True)


def compute_dtype(*arrays: Array | None) -> jnp.dtype:
    """The dtype that activations take: the weights' own, but never less than float32."""
    with jax.numpy_dtype_promotion("standard"):  # asked of JAX here, not left to chance where promotion is strict
        return jnp.result_type(jnp.float32, *(array for array in arrays if array is not None))
