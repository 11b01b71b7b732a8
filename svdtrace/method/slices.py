"""The few singular vectors that make a head fire (METHOD.md, section 4; the paper's section 3)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.cuts import prefix_beyond, running_sums, value_at


@struct.dataclass
class Slices:
    """S of every firing.

    `members` marks k ∈ S; `place` is each k's place in the order of choice; `total` = Σ_k p_k over all k.
    """

    members: Bool[Array, "*firing sv"]
    place: Int[Array, "*firing sv"]
    total: Float[Array, "*firing"]
    near_tie: Bool[Array, "*firing"]


def choose_slices(
    products: Float[Array, "*firing sv"], bounds: Float[Array, "*firing sv"], tau: Float[Array, ""] | float
) -> Slices:
    """The smallest set of products, largest first, whose running sum exceeds τ of the total.

    For a negative total (a pair that does not fire) the same with the signs turned round; for total 0, S is empty.

    Args:
        products: p_k = q̂_k k̂_k.
        bounds: rounding bound of each p_k, see `svdtrace.method.bounds.product_bounds`.
        tau: share of the total to exceed, 0 < τ ≤ 1.
    """
    sign = jnp.where(jnp.sum(products, axis=-1, keepdims=True) < 0, -1, 1).astype(products.dtype)
    oriented = products * sign
    sums = running_sums(oriented)
    total = sums.last()
    goal = tau * total
    members = prefix_beyond(oriented, sums, goal) & (total != 0)[..., None]
    size = jnp.sum(members, axis=-1, dtype=jnp.int32)
    # Independent errors add in quadrature: √w times the bound for w equal ones.
    spread = jnp.sqrt(running_squares(bounds, sums.place, size))
    spread_before = jnp.sqrt(running_squares(bounds, sums.place, size - 1))
    at_goal = (jnp.abs(sums.at(size) - goal) <= spread) | (jnp.abs(sums.at(size - 1) - goal) <= spread_before)
    may_vanish = jnp.any(members & (oriented <= bounds), axis=-1)
    inside, outside = value_at(oriented, sums, size - 1), value_at(oriented, sums, size)
    slack = value_at(bounds, sums, size - 1) + value_at(bounds, sums, size)
    may_swap = (size < products.shape[-1]) & (jnp.abs(inside - outside) <= slack)
    near_tie = (size > 0) & (at_goal | may_vanish | may_swap)
    return Slices(members=members, place=sums.place, total=total * sign[..., 0], near_tie=near_tie)


def whole_rank(products: Float[Array, "*firing sv"], within_rank: Bool[Array, "*firing sv"]) -> Slices:
    """The method `all`: every k within the rank, by p_k descending; no decision, so no tie."""
    sums = running_sums(jnp.where(within_rank, products, -jnp.inf))
    total = jnp.sum(products, axis=-1)
    return Slices(
        members=within_rank,
        place=sums.place,
        total=total,
        near_tie=jnp.zeros(total.shape, bool),
    )


def running_squares(
    bounds: Float[Array, "*firing sv"], place: Int[Array, "*firing sv"], count: Int[Array, "*firing"]
) -> Float[Array, "*firing"]:
    """Sum of the squared bounds of the `count` first values."""
    return jnp.sum(jnp.where(place < count[..., None], jnp.square(bounds), 0), axis=-1)
