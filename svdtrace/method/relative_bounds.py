"""How far float32 may carry the products and contributions of relative attention (METHOD.md, section 14.4)."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from svdtrace.method.bounds import ACTIVATION_ERROR, fineness
from svdtrace.method.relative import Row


def products_bounds(q: Array, row: Row, root: Array, turn: Array) -> Float[Array, "*firing sv"]:
    """Bound of P_k: `(|q̂| + √σ_0) a Σ_t |M_t| ‖k̂_t − k̂_j‖ (5e-5 + θ_k)`; 0 beyond the rank."""
    size = (jnp.linalg.norm(q, axis=-1) + root[..., 0]) * row.apart
    return jnp.where(root > 0, size[..., None] * (ACTIVATION_ERROR * fineness(q.dtype) + turn), 0)


def score_bound(q: Array, every_k: Array, row: Row, root: Array, attn_scale: Array) -> Float[Array, "*firing"]:
    """δ: the largest bound of a scaled score of the row."""
    largest = jnp.max(jnp.where(row.allowed, jnp.linalg.norm(every_k, axis=-1), 0), axis=-1)
    sizes = (jnp.linalg.norm(q, axis=-1) + root[..., 0]) * (largest + root[..., 0])
    return ACTIVATION_ERROR * fineness(q.dtype) * attn_scale * sizes


def turning_error(nearness: Array, members: Array) -> Float[Array, "*firing"]:
    """`e = 5e-5 + max_{k∈S} eps σ_0 / gap_k`, inf where vectors may take any place in their span."""
    return ACTIVATION_ERROR * fineness(nearness.dtype) + jnp.max(jnp.where(members, nearness, 0), axis=-1)


def contribution_bound(
    amount: Float[Array, "*firing"],
    widest: Float[Array, "*firing"],
    error: Float[Array, "*firing"],
    moved: Float[Array, "*firing"],
) -> Float[Array, "*firing"]:
    """Bound of c_w: `amount · e + δ/4 · max_w range(row)`; the second term is how far M itself moves.

    Args:
        amount: on the destination's side `max_w Σ_{k∈S} |√σ_k u_k·x_w| a Σ_t |M_t| |k̂_tk − k̂_jk|`.
        widest: the largest range over the keys that a writer's row has.
        error, moved: e and δ/4.
    """
    # An endless error of nothing is nothing.
    return jnp.where(amount > 0, amount * error, 0) + moved * widest
