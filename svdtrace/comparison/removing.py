"""What taking writers out of firings does to attention, one at a time and one after another, beside what methods say.

A reader's firing at (i, j) is looked at by itself, its LayerNorm's scales held unless said otherwise: a writer that is
taken out of what the query reads at i, or of what the keys read, takes its row out of the scores, over every k.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import centre, einsum
from svdtrace.comparison.orders import Counts, counts, left
from svdtrace.method.contributions import Reader
from svdtrace.method.relative import Row, about_mean, at_key, is_key, row_of
from svdtrace.method.slices import choose_slices
from svdtrace.tracing.attribute import present_writers
from svdtrace.tracing.observe import Observed

METHODS = {
    "dest": ("relative", "exact", "relative_every", "exact_every", "attribution", "gradient"),
    "src": ("relative", "exact", "relative_every", "exact_every", "attribution", "gradient", "own"),
}
"""What each side's writers are weighed by: the methods of METHOD.md, sections 5 and 14, through their slices and over
every k (`own`: 14.2's c_{w,j}); `gradient`: of p_j along the writer's row; `attribution`: attribution patching, the
gradient through LayerNorm times what was written.
"""
FALLS = {
    "dest": ("fall", "fall_in_slice", "fall_rescaled"),
    "src": ("fall", "fall_in_slice", "fall_rescaled", "fall_at_src", "fall_to_mean"),
}
"""By how much p_j falls where a writer is taken out (source side: at every key): over every k, or through the slice of
`relative` alone, or with LayerNorm's scale computed anew; at j alone; at j put to its mean over the keys.
"""


@struct.dataclass
class Groups:
    """Firings of one layer by prompt; `shuffled` orders writers at random, the smallest first."""

    prompt: Int[Array, "*group"]
    head: Int[Array, "*group member"]
    dest: Int[Array, "*group member"]
    src: Int[Array, "*group member"]
    shuffled: Float[Array, "*group member draw writer"]


@struct.dataclass
class Side:
    """One side of firings: `weights` by `METHODS`, `falls` by `FALLS`, and how many writers must go, by order."""

    weights: Float[np.ndarray | Array, "*firing method writer"]
    falls: Float[np.ndarray | Array, "*firing counterfactual writer"]
    counts: Counts


@struct.dataclass
class Read:
    """What the writers wrote at every token of a prompt, divided by the reading layer's scale there, and how it stands
    to the whole residual u: `along` = u·u_w/d and `size` = ‖u_w‖²/d.
    """

    written: Float[Array, "writer tok d_model"]
    along: Float[Array, "writer tok"]
    size: Float[Array, "writer tok"]


@partial(jax.jit, static_argnames="n_layers")
def taken_out(
    observed: Observed,
    groups: Groups,
    layer: Int[Array, ""],
    reader: Reader,
    W_O: Float[Array, "all_layers writer_head d_head d_model"],
    b_O: Float[Array, "all_layers d_model"],
    attn_scale: Float[Array, ""],
    tau: Float[Array, ""],
    thresholds: Float[Array, " dest"],
    *,
    n_layers: int,
) -> tuple[Side, Side]:
    """Destination and source side of every firing.

    Args:
        observed: of a pass that kept all writers.
        n_layers: writers of so many layers are gathered; those from `layer` on are masked.
    """
    present = present_writers(n_layers, W_O.shape[1], layer, True)

    def of_group(group: Groups) -> tuple[Side, Side]:
        read = read_writers(observed, group.prompt, layer, W_O[:n_layers], b_O[:n_layers])
        row, q = _row(observed, group, layer, attn_scale)
        keys = observed.k[layer, group.prompt][:, group.head].swapaxes(0, 1)
        theta = thresholds[group.dest]
        dest = _destination(read, row, q, keys, group, reader, attn_scale, tau)
        src = _source(read, row, q, keys, group, reader, attn_scale, tau)
        found = []
        for weights, falls, rows, there in ((*dest, present), (*src, present.at[-1].set(False))):
            rows, weights = jnp.where(there[:, None], rows, 0), jnp.where(there, weights, -jnp.inf)
            done = counts(row, rows, weights, jnp.where(there, group.shuffled, jnp.inf), theta)
            found.append(Side(weights, jnp.where(there, falls, 0), done))
        return found[0], found[1]

    return jax.lax.map(of_group, groups)


def read_writers(
    observed: Observed,
    prompt: Int[Array, ""],
    layer: Int[Array, ""],
    W_O: Float[Array, "layer writer_head d_head d_model"],
    b_O: Float[Array, "layer d_model"],
) -> Read:
    """All writers of the layers given; zeros for those from `layer` on and in the constant's place."""
    scale = observed.scale[layer, prompt]
    assert observed.mlp_out is not None
    assert observed.embed is not None
    assert observed.pos is not None
    of_heads = einsum("mtah,mahd->matd", observed.z[: len(W_O), prompt], W_O.astype(scale.dtype))
    stem = jnp.stack([observed.embed[prompt], observed.pos[prompt]])
    biases = jnp.broadcast_to(b_O.astype(scale.dtype)[:, None], (len(b_O), *stem.shape[1:]))
    parts = (of_heads.reshape(-1, *stem.shape[1:]), biases, observed.mlp_out[: len(W_O), prompt], stem)
    written = jnp.pad(jnp.concatenate(parts), ((0, 1), (0, 0), (0, 0)))
    below = present_writers(len(W_O), W_O.shape[1], layer, True)
    written = jnp.where(below[:, None, None], centre(written) / scale[:, None], 0)
    whole = jnp.sum(written, axis=0)
    width = written.shape[-1]
    return Read(written, einsum("wtd,td->wt", written, whole) / width, jnp.sum(jnp.square(written), -1) / width)


def _row(observed: Observed, group: Groups, layer: Array, attn_scale: Array) -> tuple[Row, Array]:
    q = observed.q[layer, group.prompt, group.dest, group.head]
    keys = observed.k[layer, group.prompt][:, group.head].swapaxes(0, 1)
    return row_of(q, keys, group.dest, group.src, attn_scale), q


Weighed = tuple[Float[Array, "firing method writer"], Float[Array, "firing counterfactual writer"], Array]


def _destination(
    read: Read, row: Row, q: Array, keys: Array, group: Groups, reader: Reader, attn_scale: Array, tau: Array
) -> Weighed:
    """Weights, falls, and what each writer put into the scores, [firing writer tok]."""
    weights, constant = reader.weights[0, group.head], (reader.shift + reader.bias)[0, group.head]
    terms = einsum("wfd,fdk->fwk", read.written[:, group.dest], weights).at[:, -1].set(constant)
    members, relative = _slices(row, q, keys, tau)
    rows, of_slice = (
        attn_scale * einsum("fwk,ftk->fwt", terms, jnp.where(each, keys, 0)) for each in (True, relative[:, None])
    )
    along, size = read.along[:, group.dest].T, read.size[:, group.dest].T
    own_key = jnp.take_along_axis(keys, group.src[:, None, None], axis=1)[:, 0]
    read_with = (jnp.where(relative, row.kappa, 0), jnp.where(members, own_key, 0), row.kappa, own_key)
    gradient = einsum("ft,fwt->fw", slope(row), rows)
    whole = jnp.sum(gradient[:, :-1], axis=-1, keepdims=True)
    weighed = (*(einsum("fk,fwk->fw", each, terms) for each in read_with), gradient - along * whole, gradient)
    scores = row.scores[:, None]
    without = (scores - rows, scores - of_slice, _rescaled(row, rows, along[..., None], size[..., None]))
    return jnp.stack(weighed, 1), _falls(row, without), rows


def _source(
    read: Read, row: Row, q: Array, keys: Array, group: Groups, reader: Reader, attn_scale: Array, tau: Array
) -> Weighed:
    """The same of the source side, where a writer writes at every key."""
    weights, constant = reader.weights[1, group.head], (reader.shift + reader.bias)[1, group.head]
    members, relative = _slices(row, q, keys, tau)

    def rows_of(coefficient: Array) -> Float[Array, "firing writer tok"]:
        asked = einsum("fk,fdk->fd", coefficient, weights)
        at_constant = einsum("fk,fk->f", coefficient, constant)
        return einsum("fd,wtd->fwt", asked, read.written).at[:, -1].set(at_constant[:, None])

    unscaled, of_slice = rows_of(q), attn_scale * rows_of(jnp.where(relative, q, 0))
    rows, exact = attn_scale * unscaled, rows_of(jnp.where(members, q, 0))
    beyond, beyond_every = about_mean(of_slice, row.allowed), about_mean(rows, row.allowed)
    M, at_src = row.weights[:, None], is_key(row.src, keys.shape[1])[:, None]
    # A writer's share of the whole residual is what LayerNorm's scale follows.
    followed = rows - read.along * jnp.sum(rows[:, :-1], axis=1, keepdims=True)
    weighed = (
        jnp.sum(M * beyond, axis=-1),
        at_key(exact, row.src),
        jnp.sum(M * beyond_every, axis=-1),
        at_key(unscaled, row.src),
        jnp.sum(slope(row)[:, None] * followed, axis=-1),
        jnp.sum(slope(row)[:, None] * rows, axis=-1),
        at_key(M * beyond, row.src),
    )
    scores = row.scores[:, None]
    without = (
        scores - rows,
        scores - of_slice,
        _rescaled(row, rows, read.along, read.size),
        scores - jnp.where(at_src, rows, 0),
        scores - jnp.where(at_src, beyond_every, 0),
    )
    return jnp.stack(weighed, 1), _falls(row, without), rows


def _slices(row: Row, q: Array, keys: Array, tau: Array) -> tuple[Bool[Array, "firing sv"], Bool[Array, "firing sv"]]:
    """S of the score's products, and of section 14's."""
    own = jnp.take_along_axis(keys, row.src[:, None, None], axis=1)[:, 0]
    nowhere = jnp.zeros_like(q)
    return choose_slices(q * own, nowhere, tau).members, choose_slices(q * row.kappa, nowhere, tau).members


def slope(row: Row) -> Float[Array, "firing tok"]:
    """∂p_j/∂S_t = p_j (δ_tj − p_t)."""
    pattern = jax.nn.softmax(jnp.where(row.allowed, row.scores, -jnp.inf), axis=-1)
    return left(row, row.scores)[..., None] * (is_key(row.src, pattern.shape[-1]).astype(pattern.dtype) - pattern)


def _rescaled(row: Row, rows: Array, along: Array, size: Array) -> Float[Array, "firing writer tok"]:
    """Scores without each writer, LayerNorm's scale that of what is left: `s'²/s² = 1 − 2 u·u_w/d + ‖u_w‖²/d`."""
    ratio = jnp.sqrt(jnp.maximum(1 - 2 * along + size, jnp.finfo(rows.dtype).eps))
    # The constant is divided by no scale.
    constant = rows[:, -1:]
    return (constant + (row.scores[:, None] - constant - rows) / ratio).at[:, -1].set(row.scores - rows[:, -1])


def _falls(row: Row, scores: tuple[Any, ...]) -> Float[Array, "firing counterfactual writer"]:
    return left(row, row.scores)[:, None, None] - left(row, jnp.stack(scores, axis=1))
