"""How far what one head writes falls on what another reads: composition scores and shares. Numerics.

score(w, r)    = ‖W_OV^w W^r‖ / (‖W_OV^w‖ ‖W^r‖), Frobenius norms (Elhage et al. 2021, "A Mathematical Framework for
                 Transformer Circuits", composition scores)
share(w, r, k) = ‖W_OV^w û_k‖² / ‖W_OV^w‖², û_k the k-th singular vector of the reader's Ω without its last entry,
                 divided by its norm
of a block     = ‖W_OV^w P‖² / ‖W_OV^w‖², P the projector onto the span of the û_k of a block of near-equal σ: the same
                 however the vectors are turned within it
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum
from svdtrace.atlas.factors import Heads
from svdtrace.method.decomposition import FLOAT32_EPS, Decomposition

NEAR = 0.01
"""Neighbouring singular values belong to one block when they differ by no more than this part of the larger."""


@struct.dataclass
class Reading:
    """What a layer's readers read with: U for queries (side 0), V for keys (side 1), and values.

    `vectors` without their last entries, which are `bias`; `within` the rank; `block` is the first vector of each
    vector's block. What a query or a key reads with, bias rows left out, is `vectors · turn`, what a value reads with
    `value` (`svdtrace.atlas.factors`).
    """

    vectors: Float[Array, "side head d_model sv"]
    bias: Float[Array, "side head sv"]
    S: Float[Array, "head sv"]
    within: Bool[Array, "head sv"]
    block: Int[Array, "head sv"]
    turn: Float[Array, "side head sv d_head"]
    value: Float[Array, "head d_model d_head"]


@struct.dataclass
class Fallen:
    """What falls of writers' output on readers. NaN where one of the two is zero, or a vector has no entry but its
    last.

    `score` on queries, keys and values, without bias rows; `with_bias` with those of the other side, whose square is a
    sum over vectors, `half` of it over how few of them; `share` on single vectors within the rank; `block` on the span
    of a block, at its first vector.
    """

    score: Float[Array, "side_v head writer"]
    with_bias: Float[Array, "side head writer"]
    half: Int[Array, "side head writer"]
    share: Float[Array, "side head writer sv"]
    block: Float[Array, "side head writer sv"]


def near_blocks(S: Float[np.ndarray, "*head sv"], within: Bool[np.ndarray, "*head sv"]) -> Int[np.ndarray, "*head sv"]:
    """The first vector of every vector's block: neighbours within `NEAR` of each other, chained.

    Args:
        S: descending; within: which of them count. The others stand alone.
    """
    joined = (S[..., :-1] - S[..., 1:] <= NEAR * S[..., :-1]) & within[..., 1:]
    first = np.concatenate([np.ones_like(within[..., :1]), ~joined], axis=-1)
    return np.maximum.accumulate(np.where(first, np.arange(S.shape[-1]), 0), axis=-1)


def reading_of(decomposition: Decomposition, layer: int, heads: Heads) -> Reading:
    """What a layer's heads read with.

    Args:
        heads: factors of that layer of the model that was decomposed.
    """
    within, S = np.asarray(decomposition.within_rank()[layer]), decomposition.S[layer]
    block = jnp.asarray(near_blocks(np.asarray(S), within), jnp.int32)
    both = jnp.stack([decomposition.U[layer], decomposition.V[layer]])
    vectors, bias = both[..., :-1, :], both[..., -1, :]
    # Uᵀ A, U being all of a basis of what A spans, whatever the rank.
    turn = einsum("sndk,sndh->snkh", vectors, heads.read[:2]) + bias[..., None] * heads.read_bias[..., None, :]
    return Reading(vectors, bias, S, jnp.asarray(within), block, turn, heads.read[2])


@jax.jit
def fall(written: Float[Array, "writer d_head d_model"], reading: Reading) -> Fallen:
    """What falls of writers' output on readers.

    The span of a block's vectors `x_k` (without their last entries b_k) has Gram matrix `I − b bᵀ`, so that
    `P = X Xᵀ + X b bᵀ Xᵀ / (1 − bᵀb)`; b is the block's alone.

    Args:
        written: normalised factors of the writers.
    """
    rounding = reading.vectors.shape[-2] * FLOAT32_EPS
    cores = einsum("whd,sndk->snwhk", written, reading.vectors)
    on_value = _squares(einsum("whd,ndk->nwhk", written, reading.value))
    squares = [*_squares(einsum("snwhk,snkj->snwhj", cores, reading.turn)), on_value]
    score = jnp.sqrt(jnp.stack(squares))
    energy = jnp.where(reading.within[None, :, None], jnp.sum(jnp.square(cores), axis=-2), 0)
    size = jnp.sum(jnp.square(reading.vectors), axis=-2)
    there = reading.within[None] & (size > rounding)
    share = jnp.where(there[:, :, None], energy / jnp.where(there, size, 1)[:, :, None], jnp.nan)
    weight = jnp.square(jnp.where(reading.within, reading.S, 0))
    carried = energy * weight[None, :, None]
    with_bias = jnp.sum(carried, axis=-1) / einsum("snk,nk->sn", size, weight)[..., None]
    half = _to_half(jnp.where(jnp.isnan(carried), 0, carried))
    return Fallen(score, jnp.sqrt(with_bias), half, share, _on_blocks(cores, energy, reading, rounding))


def _squares(product: Array) -> Array:
    return jnp.sum(jnp.square(product), axis=(-2, -1))


def _on_blocks(cores: Array, energy: Array, reading: Reading, rounding: float) -> Array:
    n_vectors = reading.block.shape[-1]
    member = (reading.block[..., None] == jnp.arange(n_vectors)[None, None]).astype(energy.dtype)
    along = einsum("snwhk,snk,nkc->snwhc", cores, reading.bias, member)
    left = 1 - einsum("snk,nkc->snc", jnp.square(reading.bias), member)
    some = left > rounding
    beside = jnp.where(some, 1 / jnp.where(some, left, 1), 0)[:, :, None] * jnp.sum(jnp.square(along), axis=-2)
    return einsum("snwk,nkc->snwc", energy, member) + beside


def _to_half(carried: Array) -> Array:
    largest = -jnp.sort(-carried, axis=-1)
    sums = jnp.cumsum(largest, axis=-1)
    return 1 + jnp.sum(sums < 0.5 * sums[..., -1:], axis=-1, dtype=jnp.int32)
