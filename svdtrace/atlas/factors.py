"""What every head writes and reads, as thin factors: `d_head × d_model` each, never `d_model × d_model`. Numerics.

A product of head matrices keeps its Frobenius norm when a factor with orthonormal columns is left out on its outside.
With `F = Q R` for each of W_Q, W_K, W_V and W_Oᵀ (section 2's orthogonalisation), up to such a factor

    W_OV = W_V W_O   →  written  R_V W_O      the row space is what the head writes into
    W_Q W_Kᵀ         →  read q   W_Q R_Kᵀ     the column space is what the query reads
    W_K W_Qᵀ         →  read k   W_K R_Qᵀ
    W_V W_O          →  read v   W_V R_Oᵀ

Queries and keys read within the span of the singular vectors of Ω, whatever its rank: `W_Q = X_U Uᵀ A`, X_U being U
without its last row, and likewise for keys. So `written · read` of these two is `(written · X) · turn` with a small
`turn`, and what the singular vectors ask for is computed already.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from gpt2jax.numerics import compute_dtype, einsum
from gpt2jax.params import Blocks
from svdtrace.method.decomposition import orthogonalise

SIDES = ("q", "k", "v")
"""What a head reads with: its query, its key, its value."""


@struct.dataclass
class Heads:
    """Head matrices of one layer as factors, each divided by its Frobenius norm; NaN for a matrix that is zero.

    `read_bias` is the row below `read` that the bias of queries and keys would give, in the same unit. `purity` is
    `tr G² / (tr G)²` of a factor's Gram matrix G: 1 over how many equal directions it would take to be as spread. `qk`
    and `ov` have the singular values of `W_Q W_Kᵀ` and `W_V W_O`, as they are.
    """

    written: Float[Array, "head d_head d_model"]
    read: Float[Array, "side head d_model d_head"]
    read_bias: Float[Array, "read_side head d_head"]
    written_purity: Float[Array, " head"]
    read_purity: Float[Array, "side head"]
    qk: Float[Array, "head d_head d_head"]
    ov: Float[Array, "head d_head d_head"]


def head_factors(blocks: Blocks, layer: int) -> Heads:
    """The factors of a layer's heads.

    Args:
        blocks: of a folded model.
    """
    weights = [blocks.W_Q[layer], blocks.W_K[layer], blocks.W_V[layer], jnp.swapaxes(blocks.W_O[layer], -1, -2)]
    thin = jnp.stack(weights).astype(compute_dtype(*weights))
    biases = jnp.stack([blocks.b_Q[layer], blocks.b_K[layer]]).astype(thin.dtype)
    return _factors(thin, biases, orthogonalise(thin)[1])


@jax.jit
def _factors(
    thin: Float[Array, "matrix head d_model d_head"],
    biases: Float[Array, "read_side head d_head"],
    R: Float[Array, "matrix head d_head d_head"],
) -> Heads:
    written = einsum("nhk,ndk->nhd", R[2], thin[3])
    # Queries are read against keys, keys against queries, values against what is written.
    against = R[jnp.asarray([1, 0, 3])]
    read = einsum("sndh,snkh->sndk", thin[:3], against)
    read_bias = einsum("snh,snkh->snk", biases, against[:2]) / _size(read[:2])[..., 0]
    written, read = written / _size(written), read / _size(read)
    purities = _purity(written, "nhd,nkd->nhk"), _purity(read, "sndh,sndk->snhk")
    return Heads(written, read, read_bias, *purities, *einsum("mnhk,mnjk->mnhj", R[::2], R[1::2]))


def _size(factor: Array) -> Array:
    """Frobenius norms, NaN where they are 0."""
    size = jnp.sqrt(jnp.sum(jnp.square(factor), axis=(-2, -1), keepdims=True))
    return jnp.where(size > 0, size, jnp.nan)


def _purity(factor: Array, gram: str) -> Array:
    return jnp.sum(jnp.square(einsum(gram, factor, factor)), axis=(-2, -1))
