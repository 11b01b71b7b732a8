"""How much of what a head reads at a token lies in the span of some of its singular vectors, and how far two heads'
spans overlap (METHOD.md, section 9). Numerics.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from gpt2jax.numerics import einsum


@jax.jit
def read_norms(
    read: Float[Array, "layer prompt tok head sv"],
    S: Float[Array, "layer head sv"],
    vectors: Float[Array, "layer head d_model_1 sv"],
    chosen: Bool[Array, "layer head sv"],
) -> Float[Array, "layer prompt tok head"]:
    """The norm of `P x̃` without its last entry, P the projector onto the span of the chosen vectors.

    `x̃·v_k = read_k / √σ_k`, so no residual is projected anew: the norm is that of `Σ_k (x̃·v_k) v_k`, a quadratic form
    in the vectors' Gram matrix over the first d rows.

    Args:
        read: queries (dest) or keys (src) in the singular gauge.
        S: singular values.
        vectors: U for queries, V for keys.
        chosen: the vectors spanned.
    """
    gram = einsum("lndk,lndm->lnkm", vectors[..., :-1, :], vectors[..., :-1, :])
    along = jnp.where(chosen, 1 / jnp.sqrt(jnp.where(chosen, S, 1)), 0)[:, None, None] * read
    return jnp.sqrt(jnp.maximum(jnp.sum(along * einsum("lbtnk,lnkm->lbtnm", along, gram), axis=-1), 0))


def span_overlaps(
    vectors: Float[np.ndarray, "layer head d_model_1 sv"], chosen: Bool[np.ndarray, "layer head sv"]
) -> Float[np.ndarray, "head_1 head_2"]:
    """The overlap of the spans of two heads' chosen vectors: mean squared cosine of the smaller one with the other.

    `‖X_aᵀ X_b‖² / min(|a|, |b|)`, X with orthonormal columns: 1 where one span holds the other, 0 where they are at
    right angles; about max(|a|, |b|) / (d + 1) for directions drawn at random.

    Returns:
        For heads counted layer by layer; NaN where one of them has no chosen vector.
    """
    layer, head, k = np.nonzero(chosen)
    columns = np.asarray(vectors)[layer, head, :, k]
    n_heads = chosen.shape[0] * chosen.shape[1]
    owner = np.eye(n_heads, dtype=columns.dtype)[layer * chosen.shape[1] + head]
    squares = np.asarray(einsum("fd,md->fm", columns, columns)) ** 2
    sums = owner.T @ squares @ owner
    count = owner.sum(axis=0)
    smaller = np.minimum(count[:, None], count[None, :])
    return np.where(smaller > 0, sums / np.where(smaller > 0, smaller, 1), np.nan)
