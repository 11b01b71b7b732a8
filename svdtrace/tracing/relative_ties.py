"""Which cuts of the source's side are near a tie (METHOD.md, section 14.4).

The bound reads every writer vector by vector at every key, which costs more than all else of a firing, and no number
but this flag depends on it. So a larger bound, made of norms alone, is held against every firing first: what stays
clear of a tie under it does under the smaller one, which is computed for the others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum
from svdtrace.method.relative_bounds import contribution_bound
from svdtrace.tracing.attribute import SIDES
from svdtrace.tracing.loops import head_by_head
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.relative_sides import Firings, Heads, SideFound, WrittenIn, written_in

VECTORS_AT_ONCE = 8
"""So many of a slice's vectors are read at a time; most slices have no more."""


@struct.dataclass
class _Read:
    """Firings of a call, one after another: their heads, |M_t|/s_t, |a q̂_k| and which vectors S has."""

    head: Int[Array, "*firing"]
    weights: Float[Array, "*firing tok"]
    coefficient: Float[Array, "*firing sv"]
    members: Bool[Array, "*firing sv"]


def bounded(
    found: SideFound, observed: Observed, prompt: Int[Array, "block slot"], heads: Heads, firings: Firings
) -> SideFound:
    """The source's side with section 14.4's bound where it decides.

    Args:
        found: as larger bounds flag it.
        prompt: the firings'.
    """
    flagged = found.choice.near_tie & heads.filled
    amount = _amounts(observed, flagged, prompt, heads, firings)
    bound = contribution_bound(amount, found.widest, firings.error, firings.moved)
    return replace(found, choice=replace(found.choice, near_tie=flagged & (bound >= found.choice.margin)))


def _amounts(
    observed: Observed, flagged: Bool[Array, "block slot"], prompt: Int[Array, "block slot"], heads: Heads, of: Firings
) -> Float[Array, "block slot"]:
    """`max_w a Σ_t |M_t| Σ_{k∈S} |q̂_ik √σ_k v_k·x_w(t)|` of the firings that are flagged; 0 of the others."""
    n_slots, head = flagged.size, jnp.broadcast_to(heads.head[:, None], flagged.shape)
    scale = jax.lax.dynamic_index_in_dim(observed.scale, heads.layer, keepdims=False)
    # Those that are flagged first, a prompt's after another.
    order = jnp.argsort(jnp.where(flagged, prompt, observed.z.shape[1]).ravel(), stable=True)
    read = _Read(
        head=head.ravel(),
        weights=(jnp.abs(of.row.weights) / scale[prompt]).reshape(n_slots, -1),
        coefficient=jnp.abs(of.coefficient).reshape(n_slots, -1),
        members=of.members.reshape(n_slots, -1),
    )
    read, own, filled = jax.tree.map(lambda each: each[order], (read, prompt.ravel(), flagged.ravel()))

    def load(prompt: Array) -> WrittenIn:
        return written_in(observed, prompt, heads)

    def work(written: WrittenIn, read: Any) -> Array:
        return _amount(written, jax.tree.map(lambda each: each[0], read), heads)[None]

    found = head_by_head(load, work, read, own, filled)
    return jnp.zeros_like(found).at[order].set(found).reshape(flagged.shape)


def _amount(written: WrittenIn, read: _Read, heads: Heads) -> Float[Array, ""]:
    """The amount of one firing, from a few of S's vectors at a time."""
    n_vectors, n_tokens, side = len(read.members), len(read.weights), SIDES.index("src")
    at_once = min(VECTORS_AT_ONCE, n_vectors)
    count = jnp.sum(read.members, dtype=jnp.int32)
    vectors = jnp.nonzero(read.members, size=n_vectors + -n_vectors % at_once, fill_value=0)[0].astype(jnp.int32)

    def step(turn: Array, found: Array) -> Array:
        k = jax.lax.dynamic_slice_in_dim(vectors, turn * at_once, at_once)
        place = turn * at_once + jnp.arange(at_once, dtype=jnp.int32)
        coefficient = jnp.where(place < count, read.coefficient[k], 0)
        cores = heads.cores.at[side, read.head, :, :, :, k].get(mode="promise_in_bounds")
        of_heads = jnp.abs(einsum("math,kmah->matk", written.z, cores)).reshape(-1, n_tokens, at_once)
        parts = [einsum("wtk,k->wt", of_heads, coefficient)]
        if written.others is not None:
            weights = heads.reader.weights.at[side, read.head, :, k].get(mode="promise_in_bounds")
            rest = einsum("ck,k->c", jnp.abs(einsum("cd,kd->ck", written.others, weights)), coefficient)
            biases = jnp.broadcast_to(rest[-heads.n_layers :, None], (heads.n_layers, n_tokens))
            parts += [biases, rest[: -heads.n_layers].reshape(-1, n_tokens)]
        return found + einsum("wt,t->w", jnp.concatenate(parts), read.weights)

    # The constant, which is no candidate, comes last.
    present = heads.present[:-1] if heads.all_writers else heads.present
    none = jnp.zeros(len(present), read.coefficient.dtype)
    amounts = jax.lax.fori_loop(0, -(-count // at_once), step, none)
    return jnp.max(jnp.where(present, amounts, 0))
