"""The rule behind slices: sort descending, add up, stop at the first running sum beyond a goal.

Written without a sort: for the few dozen values of a head, comparing all pairs is one fused loop, while XLA's sort on
CPU calls a comparator per pair. Edges, cut from many more writers, need no places and find their cut by bisection
(`svdtrace.method.edges.cut_beyond`). A value of -inf stands for none: it comes last and adds nothing, so that rows of
different lengths share one shape.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int


@struct.dataclass
class RunningSums:
    """Each value's place in descending order (ties: lower index first) and the running sum up to and with it."""

    place: Int[Array, "*rows value"]
    total: Float[Array, "*rows value"]

    def last(self) -> Float[Array, "*rows"]:
        """The running sum over all values."""
        return jnp.sum(jnp.where(self.place == self.place.shape[-1] - 1, self.total, 0), axis=-1)

    def at(self, count: Int[Array, "*rows"]) -> Float[Array, "*rows"]:
        """The running sum of the `count` largest values; 0 for none."""
        return jnp.sum(jnp.where(self.place == count[..., None] - 1, self.total, 0), axis=-1)


def running_sums(values: Float[Array, "*rows value"]) -> RunningSums:
    """Places and running sums of values in descending order."""
    index = jnp.arange(values.shape[-1]).reshape(*[1] * (values.ndim - 1), -1)
    mine, other = values[..., :, None], values[..., None, :]
    first, itself = index[..., None, :] < index[..., :, None], index[..., None, :] == index[..., :, None]
    before = (other > mine) | ((other == mine) & first)
    counted = (before | itself) & (other > -jnp.inf)
    return RunningSums(
        place=jnp.sum(before, axis=-1, dtype=jnp.int32), total=jnp.sum(jnp.where(counted, other, 0), axis=-1)
    )


def prefix_beyond(
    values: Float[Array, "*rows value"], sums: RunningSums, goal: Float[Array, "*rows"]
) -> Bool[Array, "*rows value"]:
    """The smallest prefix whose running sum is > goal; all positive values where no prefix exceeds it."""
    exceeds = sums.total > goal[..., None]
    n = values.shape[-1]
    cut = jnp.min(jnp.where(exceeds, sums.place, n), axis=-1, keepdims=True)
    return jnp.where(cut < n, sums.place <= cut, values > 0)


def value_at(
    values: Float[Array, "*rows value"], sums: RunningSums, place: Int[Array, "*rows"]
) -> Float[Array, "*rows"]:
    """The value that stands at a place (-inf where none does); 0 where the place is outside."""
    return jnp.sum(jnp.where(sums.place == place[..., None], values, 0), axis=-1)
