"""Which writers explain a firing: the edges (METHOD.md, section 6)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float


@struct.dataclass
class Edges:
    """`chosen` marks the writers that are edges; `total` is Σ c_w over the writers allowed; `margin` the bound of a c_w
    from which on the cut is near a tie, inf where nothing is chosen.
    """

    chosen: Bool[Array, "*firing writer"]
    total: Float[Array, "*firing"]
    margin: Float[Array, "*firing"]
    near_tie: Bool[Array, "*firing"]


def covering(weight: Float[Array, "*rows value"], coverage: Float[Array, ""] | float) -> Bool[Array, "*rows value"]:
    """Values, largest first, until their sum exceeds `coverage` of the total, and all as large as the last of them.

    A value of -inf stands for none.
    """
    return weight >= cut_beyond(weight, coverage * total_of(weight))[..., None]


def choose_edges(
    weight: Float[Array, "*firing writer"], bound: Float[Array, "*firing"], coverage: Float[Array, ""] | float
) -> Edges:
    """Writers, largest first, until their sum exceeds `coverage` of the total; all as large as the last one count.

    Near a tie: the running sum at the cut or one before it lies within its bound of the goal, or the contributions on
    both sides of the cut lie within theirs of each other.

    Args:
        weight: c_w; -inf stands for no writer.
        bound: of each of a firing's c_w, see `svdtrace.method.contributions.contribute_bounded`.
    """
    total = total_of(weight)
    goal = coverage * total
    cut = cut_beyond(weight, goal)
    larger, equal, smaller = weight > cut[..., None], weight == cut[..., None], weight < cut[..., None]
    n_equal = jnp.sum(equal, axis=-1).astype(weight.dtype)
    above = jnp.sum(jnp.where(larger, weight, 0), axis=-1)
    # How many of the equal ones it takes to exceed the goal; a cut of inf chooses nothing.
    last = jnp.where(n_equal > 0, cut, 0)
    several = jnp.floor((goal - above) / jnp.where(last > 0, last, 1)) + 1
    taken = jnp.clip(jnp.where(last > 0, several, 1), 1, n_equal)
    count = jnp.sum(larger, axis=-1).astype(weight.dtype) + taken
    following = jnp.where(taken < n_equal, cut, jnp.max(jnp.where(smaller, weight, -jnp.inf), axis=-1))

    def to_goal(count: Array, running: Array) -> Array:
        # The sum of nothing is exact.
        return jnp.where(count > 0, jnp.abs(running - goal) / jnp.sqrt(jnp.maximum(count, 1)), jnp.inf)

    at_cut, before_cut = to_goal(count, above + taken * last), to_goal(count - 1, above + (taken - 1) * last)
    margin = jnp.minimum(jnp.minimum(at_cut, before_cut), (cut - following) / 2)
    margin = jnp.where(n_equal > 0, margin, jnp.inf)
    return Edges(chosen=larger | equal, total=total, margin=margin, near_tie=(n_equal > 0) & (bound >= margin))


def total_of(weight: Float[Array, "*rows value"]) -> Float[Array, "*rows"]:
    """The sum of the values that are there."""
    return jnp.sum(jnp.where(weight > -jnp.inf, weight, 0), axis=-1)


def cut_beyond(weight: Float[Array, "*rows value"], goal: Float[Array, "*rows"]) -> Float[Array, "*rows"]:
    """The value at which the running sum, largest first, exceeds a goal; the smallest positive one where it never does;
    inf where nothing is to be chosen.

    No sort: a sum of the positive values from t on falls as t grows, so the cut is the largest t whose sum exceeds the
    goal. It is found by bisection over the bits of t, which are ordered as positive floats are: 31 sums of each row,
    where XLA's sort on CPU calls a comparator for every pair, and comparing all pairs grows with the square.
    """
    whole = jnp.int32 if weight.dtype.itemsize == 4 else jnp.int64
    largest = jnp.max(weight, axis=-1)

    def step(_: Array, within: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = within
        middle = low + ((high - low) >> 1)
        enough = jax.lax.bitcast_convert_type(middle, weight.dtype)[..., None]
        exceeds = jnp.sum(jnp.where(weight >= enough, weight, 0), axis=-1) > goal
        return jnp.where(exceeds, middle, low), jnp.where(exceeds, high, middle)

    low = jnp.zeros(goal.shape, whole)
    beyond = jax.lax.bitcast_convert_type(jnp.full(goal.shape, jnp.inf, weight.dtype), whole)
    bits, _ = jax.lax.fori_loop(0, 8 * weight.dtype.itemsize - 1, step, (low, beyond))
    smallest = jnp.min(jnp.where(weight > 0, weight, jnp.inf), axis=-1)
    cut = jnp.where(bits > 0, jax.lax.bitcast_convert_type(bits, weight.dtype), smallest)
    # Below 0 a goal is exceeded by the first value or by none.
    return jnp.where(goal < 0, jnp.where(largest > goal, largest, jnp.inf), cut)
