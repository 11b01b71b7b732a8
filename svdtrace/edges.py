"""Which writers explain a firing: the edges (METHOD.md, section 6)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.contributions import Contributions
from svdtrace.cuts import RunningSums, prefix_beyond, running_sums, value_at


@struct.dataclass
class Edges:
    """`chosen` marks the writers that are edges; `total` is Σ c_w over the writers allowed."""

    chosen: Bool[Array, "*firing writer"]
    total: Float[Array, "*firing"]
    near_tie: Bool[Array, "*firing"]


def covering(
    weight: Float[Array, "*rows value"], sums: RunningSums, coverage: Float[Array, ""] | float
) -> tuple[Bool[Array, "*rows value"], Int[Array, "*rows"]]:
    """Values, largest first, until their sum exceeds `coverage` of the total, and all as large as the last of them.

    Returns:
        The values chosen, and how many it took to exceed.
    """
    prefix = prefix_beyond(weight, sums, coverage * sums.last())
    count = jnp.sum(prefix, axis=-1, dtype=jnp.int32)
    cut = value_at(weight, sums, count - 1)
    as_large = (weight >= cut[..., None]) & (weight > -jnp.inf)
    return prefix | (as_large & (count > 0)[..., None]), count


def choose_edges(contributions: Contributions, coverage: Float[Array, ""] | float) -> Edges:
    """Writers, largest first, until their sum exceeds `coverage` of the total; all as large as the last one count.

    Near a tie: the running sum at the cut or one before it lies within its bound of the goal, or the contributions on
    both sides of the cut lie within theirs of each other.
    """
    weight, bound = contributions.weight, contributions.bound
    sums = running_sums(weight)
    total = sums.last()
    goal = coverage * total
    chosen, count = covering(weight, sums, coverage)
    inside, outside = value_at(weight, sums, count - 1), value_at(weight, sums, count)

    def at_goal(count: Array) -> Array:
        return jnp.abs(sums.at(count) - goal) <= jnp.sqrt(count.astype(bound.dtype)) * bound

    may_swap = (count < weight.shape[-1]) & (inside - outside <= 2 * bound)
    near_tie = (count > 0) & (at_goal(count) | at_goal(count - 1) | may_swap)
    return Edges(chosen=chosen, total=total, near_tie=near_tie)
