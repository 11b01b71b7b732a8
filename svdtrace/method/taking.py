"""Which writers a firing cannot do without: they are taken out of its scores, the largest first, until the head would
no longer fire (METHOD.md, section 14.4).

All that is taken is looked at at once: pattern after pattern of the running sums, one row of keys a candidate. Where
candidates touch one key each, a candidate changes one term of the softmax's sum, and no row is needed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.edges import choose_edges, total_of
from svdtrace.method.relative import is_key


@struct.dataclass
class Chosen:
    """The candidates that are edges, [*firing candidate]; `margin`, see `svdtrace.method.edges.Edges`; `drop`, by how
    much p_j fell at each one's turn, and `unreached`, whether the head still fires without all of them, are there where
    candidates were taken out.
    """

    chosen: Bool[Array, "*firing candidate"]
    total: Float[Array, "*firing"]
    margin: Float[Array, "*firing"]
    near_tie: Bool[Array, "*firing"]
    drop: Float[Array, "*firing candidate"] | None
    unreached: Bool[Array, "*firing"]


def cover(
    weight: Float[Array, "*firing candidate"], bound: Float[Array, "*firing"], coverage: Float[Array, ""]
) -> Chosen:
    """Section 6's rule."""
    edges = choose_edges(weight, bound, coverage)
    return Chosen(
        edges.chosen, edges.total, edges.margin, edges.near_tie, None, unreached=jnp.zeros(edges.total.shape, bool)
    )


def falling(weight: Float[Array, "*firing candidate"]) -> Int[Array, "*firing candidate"]:
    """Candidates in the order in which they are taken: falling, equal ones in their own order."""
    return jnp.argsort(-weight, axis=-1, stable=True)


def take_until(
    weight: Float[Array, "*firing candidate"],
    after: Float[Array, "*firing candidate"],
    pattern: Float[Array, "*firing"],
    threshold: Float[Array, "*firing"],
    bound: Float[Array, "*firing"],
) -> Chosen:
    """Positive candidates, largest first, until p_j is below the threshold; all of them where it never is.

    Args:
        weight: values; -inf stands for no candidate.
        after: p_j after each in `falling` order is taken out with those before it.
        pattern: p_j with all of them.
        bound: of each value.
    """
    order = falling(weight)
    ranked = jnp.take_along_axis(weight, order, -1)
    below = (ranked > 0) & (after < threshold[..., None])
    reached, n_positive = jnp.any(below, axis=-1), jnp.sum(ranked > 0, axis=-1, dtype=jnp.int32)
    count = jnp.where(reached, jnp.argmax(below, axis=-1).astype(jnp.int32) + 1, n_positive)
    before = jnp.concatenate([pattern[..., None], after[..., :-1]], axis=-1)
    place = jnp.argsort(order, axis=-1)
    drop = jnp.take_along_axis(before - after, place, -1)
    chosen = place.astype(jnp.int32) < count[..., None]

    def at(values: Array, index: Array) -> Array:
        return jnp.take_along_axis(values, jnp.clip(index, 0, values.shape[-1] - 1)[..., None], -1)[..., 0]

    taken = count.astype(weight.dtype)
    to_end = 2 * jnp.abs(at(after, count - 1) - threshold) / jnp.maximum(taken, 1)
    to_before = 2 * jnp.abs(at(before, count - 1) - threshold) / jnp.maximum(taken - 1, 1)
    last, following = at(ranked, count - 1), jnp.where(count < weight.shape[-1], at(ranked, count), -jnp.inf)
    margin = jnp.minimum(jnp.minimum(to_end, jnp.where(count > 1, to_before, jnp.inf)), (last - following) / 2)
    margin = jnp.where(count > 0, margin, jnp.inf)
    near_tie, unreached = (count > 0) & (bound >= margin), ~reached & (n_positive > 0)
    return Chosen(chosen, total_of(weight), margin, near_tie, jnp.where(chosen, drop, 0), unreached)


def after_rows(
    scores: Float[Array, "*firing tok"],
    rows: Float[Array, "*firing candidate tok"],
    order: Int[Array, "*firing candidate"],
    src: Int[Array, "*firing"],
    allowed: Bool[Array, "*firing tok"],
) -> Float[Array, "*firing candidate"]:
    """p_j after each candidate's row has left the scores, with those of the candidates before it."""
    gone = jnp.cumsum(jnp.take_along_axis(rows, order[..., None], -2), axis=-2)
    left = scores[..., None, :] - gone
    at_src = is_key(src, scores.shape[-1])[..., None, :]
    own = jnp.sum(jnp.where(at_src, left, 0), axis=-1, keepdims=True)
    return 1 / jnp.sum(jnp.where(allowed[..., None, :], jnp.exp(left - own), 0), axis=-1)


def after_keys(
    scores: Float[Array, "*firing tok"],
    parts: Float[Array, "*firing writer tok"],
    values: Float[Array, "*firing writer tok"],
    order: Int[Array, "*firing candidate"],
    src: Int[Array, "*firing"],
    allowed: Bool[Array, "*firing tok"],
) -> Float[Array, "*firing candidate"]:
    """The same where a candidate (w, t), numbered w · T + t, takes its part out of the score of key t alone.

    A candidate whose value is positive lowers S_j or raises another key's score: rivals' sum only grows, and is kept as
    a running log-sum-exp, so that nothing cancels.

    Args:
        parts: what leaves S_t; values: what orders them, -inf for none.
    """
    at_src = is_key(src, scores.shape[-1])
    by_key = falling(jnp.swapaxes(values, -1, -2))
    ranked = jnp.take_along_axis(jnp.swapaxes(parts, -1, -2), by_key, -1)
    gone = jnp.cumsum(ranked, axis=-1)
    back = jnp.argsort(by_key, axis=-1)
    old, new = (
        jnp.swapaxes(scores[..., None] - jnp.take_along_axis(each, back, -1), -1, -2) for each in (gone - ranked, gone)
    )
    rival = (values > 0) & (new > old) & (allowed & ~at_src)[..., None, :]
    rise = jnp.where(rival, new - old, 1)
    # log(exp(new) - exp(old)), which may be far above what a number of the type can be e to the power of.
    grown = jnp.where(rival, new + jnp.log(-jnp.expm1(-rise)), -jnp.inf)
    own = jnp.where(at_src[..., None, :], parts, 0)
    flat = (*scores.shape[:-1], order.shape[-1])
    grown, own = (jnp.take_along_axis(each.reshape(flat), order, -1) for each in (grown, own))
    first = jax.nn.logsumexp(jnp.where(allowed & ~at_src, scores, -jnp.inf), axis=-1, keepdims=True)
    rivals = jnp.logaddexp(first, jax.lax.cumlogsumexp(grown, axis=grown.ndim - 1))
    left = jnp.sum(jnp.where(at_src, scores, 0), -1, keepdims=True) - jnp.cumsum(own, axis=-1)
    return jax.nn.sigmoid(left - rivals)
