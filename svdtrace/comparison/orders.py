"""How many writers must leave a firing's scores until its head would no longer fire, taken in one order or another."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.relative import Row, pattern_at
from svdtrace.method.taking import after_rows, falling

PROVEN = 3
"""Where the greedy order needs so many, and no pair is enough, fewer are not possible."""


@struct.dataclass
class Counts:
    """How many writers: in the order of each method's weights, at random (the draws' mean), and at `best`. 0 where the
    head still fires without any.

    `best` is the fewest where a single writer or a pair is enough (all are tried), else what a greedy order needs:
    always the one next that lowers p_j most.
    """

    by_method: Int[np.ndarray | Array, "*firing method"]
    random: Float[np.ndarray | Array, "*firing"]
    best: Int[np.ndarray | Array, "*firing"]


def counts(
    row: Row,
    rows: Float[Array, "firing writer tok"],
    weights: Float[Array, "firing method writer"],
    shuffled: Float[Array, "firing draw writer"],
    threshold: Float[Array, " firing"],
) -> Counts:
    """Take writers' rows out of the scores.

    Args:
        rows: of each writer; zero where there is none.
        weights: the largest goes first.
        shuffled: the smallest goes first.
        threshold: below it the head no longer fires.
    """

    def needed(weight: Float[Array, "firing writer"]) -> Int[Array, " firing"]:
        after = after_rows(row.scores, rows, falling(weight), row.src, row.allowed)
        return _first(after < threshold[:, None])

    by_method = jax.lax.map(needed, jnp.moveaxis(weights, 1, 0)).T
    at_random = jax.lax.map(needed, -jnp.moveaxis(shuffled, 1, 0))
    return Counts(by_method, jnp.mean(at_random.astype(rows.dtype), axis=0), _best(row, rows, threshold))


def _first(below: Bool[Array, "firing writer"]) -> Int[Array, " firing"]:
    return jnp.where(jnp.any(below, axis=-1), jnp.argmax(below, axis=-1).astype(jnp.int32) + 1, 0)


def left(row: Row, scores: Float[Array, "*rows tok"]) -> Float[Array, "*rows"]:
    """p_j of rows of scores, the firings their first axis."""
    between = range(1, scores.ndim - 1)
    src, allowed = jnp.expand_dims(row.src, between), jnp.expand_dims(row.allowed, between)
    return pattern_at(scores, jnp.broadcast_to(src, scores.shape[:-1]), jnp.broadcast_to(allowed, scores.shape))


def _best(
    row: Row, rows: Float[Array, "firing writer tok"], threshold: Float[Array, " firing"]
) -> Int[Array, " firing"]:
    greedy = _greedy(row, rows, threshold)

    writer = jnp.arange(rows.shape[1])

    def pairs(_: None) -> Bool[Array, " firing"]:
        def with_this(first: Int[Array, ""]) -> Bool[Array, " firing"]:
            after = left(row, row.scores[:, None] - rows[:, first][:, None] - rows)
            return jnp.any((after < threshold[:, None]) & (writer != first), axis=-1)

        return jnp.any(jax.lax.map(with_this, writer), axis=0)

    more = greedy > 2
    enough = jax.lax.cond(jnp.any(more), pairs, lambda _: jnp.zeros_like(more), None)
    return jnp.where(more & enough, 2, greedy)


def _greedy(
    row: Row, rows: Float[Array, "firing writer tok"], threshold: Float[Array, " firing"]
) -> Int[Array, " firing"]:
    """How many writers go when each is the one that lowers p_j most; 0 where all are not enough."""
    n_writers = rows.shape[1]

    def goes_on(state: tuple[Array, Array, Array, Array]) -> Array:
        place, _, _, count = state
        return jnp.any(count == 0) & (place < n_writers)

    def step(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        place, scores, gone, count = state
        after = jnp.where(gone, jnp.inf, left(row, scores[:, None] - rows))
        best = jnp.argmin(after, axis=-1)
        mine = jnp.take_along_axis(rows, best[:, None, None], axis=1)[:, 0]
        gone = gone | (jnp.arange(n_writers) == best[:, None])
        reached = jnp.min(after, axis=-1) < threshold
        count = jnp.where((count == 0) & reached, place + 1, count)
        return place + 1, scores - mine, gone, count

    firings = len(rows)
    start = jnp.int32(0), row.scores, jnp.zeros((firings, n_writers), bool), jnp.zeros(firings, jnp.int32)
    return jax.lax.while_loop(goes_on, step, start)[3]
