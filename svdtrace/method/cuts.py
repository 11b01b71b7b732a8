"""The rule behind slices: sort descending, add up, stop at the first running sum beyond a goal.

Written without a sort: for the few dozen values of a head, comparing all pairs is a loop over vectors, while XLA's sort
on CPU calls a comparator per pair. Edges, cut from many more writers, need no places and find their cut by bisection
(`svdtrace.method.edges.cut_beyond`). A value of -inf stands for none: it comes last and adds nothing, so that rows of
different lengths share one shape.
"""

from __future__ import annotations

import jax
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
    """Places and running sums of values in descending order.

    One value after another is held against all: arrays of all pairs would be fresh memory, which costs more than to
    compare.
    """
    index = jnp.arange(values.shape[-1]).reshape(*[1] * (values.ndim - 1), -1)

    def step(at: Array, sums: RunningSums) -> RunningSums:
        other = jax.lax.dynamic_slice_in_dim(values, at, 1, axis=-1)
        before = (other > values) | ((other == values) & (at < index))
        counted = (before | (at == index)) & (other > -jnp.inf)
        return RunningSums(sums.place + before.astype(jnp.int32), sums.total + jnp.where(counted, other, 0))

    none = RunningSums(jnp.zeros(values.shape, jnp.int32), jnp.zeros_like(values))
    return jax.lax.fori_loop(0, values.shape[-1], step, none, unroll=4)


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
