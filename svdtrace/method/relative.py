"""Why a head attends there and not elsewhere: relative attention (METHOD.md, section 14).

A part of a row of scores is worth its integrated gradient on the attention probability p_j, along the straight path
from no scores at all: `Σ_t M_t r_t` for the part's row r over the keys. The path weights M are one row of numbers a
firing; with them `κ_k = a Σ_t M_t k̂_tk` takes the place of the key in products, slices and contributions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum
from svdtrace.errors import SettingError

NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
"""Of Gauss and Legendre, on [-1, 1]."""
PANELS = 5
"""[0, 1/16], [1/16, 1/8], [1/8, 1/4], [1/4, 1/2], [1/2, 1]: from the third on the one before with its nodes doubled."""
QUADRATURE = 1e-6
"""An error of the rule above this is flagged (section 14.9)."""


def path_weights(
    scores: Float[Array, "*row tok"], src: Int[Array, "*row"], allowed: Bool[Array, "*row tok"]
) -> Float[Array, "*row tok"]:
    """`M_t = ∫₀¹ p_j(α) (δ_tj − p_t(α)) dα`, p(α) = softmax(α scores), by the rule of section 14.1.

    M_j is taken as minus the sum of the others, so that a constant added to the scores, or to a part's row, changes
    nothing but rounding. 32 exponentials a key; the nodes of the last three panels are squares.

    Args:
        src: j.
        allowed: the keys; the others have weight 0.
    """
    top = jnp.max(jnp.where(allowed, scores, -jnp.inf), axis=-1, keepdims=True)
    below = jnp.where(allowed, scores - top, 0)
    at_src = is_key(src, scores.shape[-1])
    halves = np.stack([NODES + 1, NODES + 3], -1) / 32

    def step(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
        (first, second), weight = node
        power = jnp.where(allowed, jnp.exp(first * below), 0)
        for panel in range(PANELS):
            if panel == 1:
                power = jnp.where(allowed, jnp.exp(second * below), 0)
            elif panel > 1:
                power = jnp.square(power)
            whole = jnp.sum(power, axis=-1, keepdims=True)
            mine = jnp.sum(jnp.where(at_src, power, 0), axis=-1, keepdims=True)
            width = 2.0 ** (panel - 5) if panel else 2.0**-4
            total = total + (0.5 * width * weight) * (mine / whole) * (power / whole)
        return total, None

    nodes = jnp.asarray(halves, scores.dtype), jnp.asarray(NODE_WEIGHTS, scores.dtype)
    together, _ = jax.lax.scan(step, jnp.zeros_like(scores), nodes)
    others = jnp.where(at_src, 0, together)
    return jnp.where(at_src, jnp.sum(others, axis=-1, keepdims=True), -others)


@dataclass(frozen=True)
class RelativeWeights:
    """The path weights M of rows of scores, [*row tok], and how far the rule is off, [*row]: the error of its total,
    `|Σ_t M_t S_t − (p_j − 1/T)|`, T the number of keys. NumPy's arrays, since float64 is not always JAX's to hold.
    """

    weights: Float[np.ndarray, "*row tok"]
    error: Float[np.ndarray, "*row"]


def relative_weights(scores: Any, j: Any) -> RelativeWeights:
    """What each key's score has to do with attention to key j (METHOD.md, section 14.1), for any rows of scores.

    `Σ_t M_t r_t` says by how much a part r of the scores raises the attention probability p_j above what it is without
    any scores, 1/T; over parts that sum to the scores these sum to p_j − 1/T. Adding a constant to a row changes
    nothing.

    Args:
        scores: as the softmax gets them, scaled; [*row tok]. -inf stands for no key.
        j: the key asked about, a whole number or an array [*row].

    Returns:
        M, in the scores' precision if that is float64, else in float32, and its error.

    Raises:
        SettingError: scores without an axis, of something else than finite numbers and -inf, or a j that is no key.

    Example:
        >>> found = relative_weights([2.0, 0.0, -1.0], 0)
        >>> bool(abs(found.weights.sum()) < 1e-6), bool(found.error < 1e-6)
        (True, True)
    """
    values = np.asarray(scores)
    if values.ndim == 0 or values.shape[-1] == 0 or values.dtype.kind not in "fiu":
        raise SettingError(f"scores are {values.dtype} {list(values.shape)}; give rows of real numbers, [..., key]")
    values = values if values.dtype == np.float64 and not isinstance(scores, (list, tuple)) else values.astype("f4")
    allowed, places = values > -np.inf, np.asarray(j)
    if not np.all(np.isfinite(values) | ~allowed) or np.any(np.isnan(values)):
        raise SettingError("scores hold values that are not finite; -inf alone stands for no key")
    src = np.broadcast_to(places, values.shape[:-1]) if places.shape in ((), values.shape[:-1]) else None
    if src is None or src.dtype.kind not in "iu" or np.any((src < 0) | (src >= values.shape[-1])):
        raise SettingError(f"j is {j}; give a key's number from 0 to {values.shape[-1] - 1}, one for all rows or each")
    if not np.all(np.take_along_axis(allowed, src[..., None], -1)):
        raise SettingError("j is a key whose score is -inf in some row; ask about a key that is there")
    with jax.enable_x64(values.dtype == np.float64):
        found = _weighed(values, src.astype(np.int32), allowed)
        return RelativeWeights(*(np.asarray(each) for each in found))


@jax.jit
def _weighed(scores: Array, src: Array, allowed: Array) -> tuple[Array, Array]:
    weights = path_weights(scores, src, allowed)
    here = jnp.where(allowed, scores, 0)
    top = jnp.take_along_axis(here, src[..., None], -1)
    return weights, quadrature_error(jnp.sum(weights * (here - top), -1), pattern_at(scores, src, allowed), allowed)


def is_key(src: Int[Array, "*row"], n_tokens: int) -> Bool[Array, "*row tok"]:
    """Which of the keys is j."""
    return jnp.arange(n_tokens, dtype=src.dtype) == src[..., None]


def pattern_at(
    scores: Float[Array, "*row tok"], src: Int[Array, "*row"], allowed: Bool[Array, "*row tok"]
) -> Float[Array, "*row"]:
    """p_j of a row of scores."""
    at_src = is_key(src, scores.shape[-1])
    whole = jax.nn.softmax(jnp.where(allowed, scores, -jnp.inf), axis=-1)
    return jnp.sum(jnp.where(at_src, whole, 0), axis=-1)


def quadrature_error(
    total: Float[Array, "*row"], pattern: Float[Array, "*row"], allowed: Bool[Array, "*row tok"]
) -> Float[Array, "*row"]:
    """`|total − (p_j − 1/T)|`: zero but for the rule and rounding (section 14.9)."""
    return jnp.abs(total - (pattern - 1 / jnp.sum(allowed, axis=-1, dtype=pattern.dtype)))


@struct.dataclass
class Row:
    """A firing's row of scores over the keys, and what section 14 makes of it.

    `scores` S_t, `weights` M_t, `allowed` t ≤ i; `src` j; `kappa` κ_k; `spread` a Σ_t |M_t| |k̂_tk − k̂_jk| and `apart`
    a Σ_t |M_t| ‖k̂_t − k̂_j‖, what bounds are made of.
    """

    scores: Float[Array, "*firing tok"]
    weights: Float[Array, "*firing tok"]
    allowed: Bool[Array, "*firing tok"]
    src: Int[Array, "*firing"]
    kappa: Float[Array, "*firing sv"]
    spread: Float[Array, "*firing sv"]
    apart: Float[Array, "*firing"]


def row_of(
    q: Float[Array, "*firing sv"],
    keys: Float[Array, "*firing tok sv"],
    dest: Int[Array, "*firing"],
    src: Int[Array, "*firing"],
    attn_scale: Float[Array, ""],
) -> Row:
    """Scores and path weights of firings, from q̂_i and every k̂_t."""
    allowed = jnp.arange(keys.shape[-2], dtype=dest.dtype) <= dest[..., None]
    scores = attn_scale * einsum("...k,...tk->...t", q, keys)
    weights = path_weights(scores, src, allowed)
    own = jnp.take_along_axis(keys, src[..., None, None], axis=-2)
    beyond = jnp.where(allowed[..., None], keys - own, 0)
    return Row(
        scores=scores,
        weights=weights,
        allowed=allowed,
        src=src,
        kappa=attn_scale * einsum("...t,...tk->...k", weights, beyond),
        spread=attn_scale * einsum("...t,...tk->...k", jnp.abs(weights), jnp.abs(beyond)),
        apart=attn_scale * einsum("...t,...t->...", jnp.abs(weights), jnp.linalg.norm(beyond, axis=-1)),
    )


def rows_range(rows: Float[Array, "*firing writer tok"]) -> Float[Array, "*firing writer"]:
    """The range of writers' rows over the keys.

    Args:
        rows: 0 at tokens that are no keys, and at some key or in the mean over them, so that 0 lies in the range.
    """
    return jnp.max(rows, axis=-1) - jnp.min(rows, axis=-1)


def about_mean(
    rows: Float[Array, "*firing writer tok"], allowed: Bool[Array, "*firing tok"]
) -> Float[Array, "*firing writer tok"]:
    """`ρ_w[t] − ρ̄_w`: a row's constant counts at no key (section 14.2)."""
    among = allowed[..., None, :]
    mean = jnp.sum(jnp.where(among, rows, 0), -1, keepdims=True) / jnp.sum(among, -1, keepdims=True, dtype=rows.dtype)
    return jnp.where(among, rows - mean, 0)


def at_key(values: Float[Array, "*firing writer tok"], src: Int[Array, "*firing"]) -> Float[Array, "*firing writer"]:
    """The values at key j."""
    return jnp.sum(jnp.where(is_key(src, values.shape[-1])[..., None, :], values, 0), axis=-1)
