"""The statistic of every candidate edge, observed and under nulls (METHOD.md, section 12).

A null changes one of two things. Slices and bases change which coefficients weigh the writers' terms: in a basis turned
by R the terms are `terms R`, so weighing them by c' is weighing the terms themselves by `R c'`, and no array of turned
terms is made. Shuffled prompts change the terms.

Nulls are the last axis of every array: what is compared and summed for a firing is then done for many nulls at once,
and the terms, which are the same for all of them, are weighed in one matrix product a firing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from gpt2jax.numerics import einsum
from svdtrace.method.contributions import Reader, Written, coefficients, contribute
from svdtrace.nulls.draws import random_slices
from svdtrace.tracing.attribute import (
    SIDES,
    Blocks,
    Collected,
    collect,
    present_writers,
    readers_of,
    sliced,
    writer_terms,
)
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.over_keys import OverKeys, collect_over_keys

UNROLLED = 32
"""Entries compared with all others in one step of a loop: few enough to compile, many enough to stay in registers."""


@struct.dataclass
class Layer:
    """What the readers of one layer are read with; see `svdtrace.tracing.attribute.attribute`.

    `first` marks with 1, for each singular vector, the first of those that come into a slice together with it; `None`
    where each comes alone.
    """

    layer: Int[Array, ""]
    reader: Reader
    cores: Float[Array, "side head layer writer_head d_head sv"]
    b_O: Float[Array, "all_layers d_model"]
    tau: Float[Array, ""]
    coverage: Float[Array, ""]
    first: Float[Array, "head sv sv"] | None = None


@struct.dataclass
class Firings:
    """Firings in blocks of one head: where they stand, `name` that tells each from all others, `filled` which slots
    hold one, `role` the number of each side's token's role, `partnered` whether its prompt has a partner; under
    `relative`, what they read over all keys.
    """

    blocks: Blocks
    name: UInt[np.ndarray | Array, "block slot 2"]
    filled: Bool[np.ndarray | Array, "block slot"]
    role: Int[np.ndarray | Array, "side block slot"]
    partnered: Bool[np.ndarray | Array, "block slot"]
    over: OverKeys | None = None


@struct.dataclass
class Read:
    """What firings read: q̂ and k̂ (κ under `relative`), S as observed, and the writers' terms on each side asked for, 0
    for no writer.
    """

    q: Float[Array, "block slot sv"]
    k: Float[Array, "block slot sv"]
    members: Bool[Array, "block slot sv"]
    terms: tuple[Float[Array, "block slot writer sv"], ...]


def edge_shares(
    weight: Float[Array, "*firing writer null"], coverage: Float[Array, ""] | float
) -> Float[Array, "*firing writer null"]:
    """`c_w / Σ_w |c_w|` where section 6 chooses w and c_w > 0, else 0; a c_w of 0 may stand for no writer.

    Largest first until a sum exceeds the goal: chosen are the largest, and all that the sum of larger ones leaves to be
    chosen. Of these only positive ones count, so that sums of positive values decide.
    """
    larger, size = _larger(weight), jnp.sum(jnp.abs(weight), axis=-2, keepdims=True)
    goal = coverage * jnp.sum(weight, axis=-2, keepdims=True)
    chosen = (larger <= goal) | (weight == jnp.max(weight, axis=-2, keepdims=True))
    counts = chosen & (weight > 0)
    return jnp.where(counts, weight / jnp.where(counts, size, 1), 0)


def slice_members(
    products: Float[Array, "*firing sv null"], tau: Float[Array, ""] | float
) -> Bool[Array, "*firing sv null"]:
    """S by section 4's rule: those that the sum of larger ones (ties: lower k first) leaves to be taken; for a negative
    total, which firings have under `relative` alone, the same with the signs turned round. None at total 0.
    """
    index = jnp.arange(products.shape[-2])[:, None]
    # Summed in the order of the sums below, so that the last running sum does not exceed itself by rounding.
    total = _summed(products, lambda _, each: each, jnp.zeros_like(products[..., :1, :]))
    sign = jnp.where(total < 0, -1, 1).astype(products.dtype)
    oriented = products * sign
    larger = _larger(oriented, ties=lambda other: other < index)
    return (oriented > 0) & (larger <= tau * total * sign) & (total != 0)


def _larger(values: Array, ties: Callable[[Array], Array] | None = None) -> Array:
    """Of each value the sum of the positive ones that come before it: larger ones, and equal ones where `ties` says."""

    def before(other: Array, each: Array) -> Array:
        first = each > values
        if ties is not None:
            first |= (each == values) & jnp.broadcast_to(ties(other), values.shape)
        return jnp.where(first, jnp.maximum(each, 0), 0)

    return _summed(values, before, jnp.zeros_like(values))


def _summed(values: Array, part: Callable[[Array, Array], Array], start: Array) -> Array:
    """Add up a part for each entry of the last axis but one, in their order."""

    def step(other: Array, total: Array) -> Array:
        return total + part(other, jax.lax.dynamic_index_in_dim(values, other, axis=-2))

    return jax.lax.fori_loop(0, values.shape[-2], step, start, unroll=UNROLLED)


def gather(
    observed: Observed, firings: Firings, layer: Int[Array, ""], *, n_layers: int, sides: tuple[str, ...]
) -> Collected:
    """What firings need of the forward pass: of their own tokens, or under `relative` of all keys."""
    if firings.over is None:
        return collect(observed, firings.blocks, layer, n_layers=n_layers, sides=sides)
    return collect_over_keys(observed, firings.blocks, firings.over, layer, n_layers=n_layers, sides=sides)


@partial(jax.jit, static_argnames=("method", "sides", "all_writers"))
def read(
    collected: Collected, firings: Firings, given: Layer, *, method: str, sides: tuple[str, ...], all_writers: bool
) -> Read:
    """Slices as observed and the writers' terms, once for all nulls."""
    present = _present(given, all_writers)[:, None]
    head = jnp.asarray(firings.blocks.head)
    terms = tuple(
        jnp.where(present, jnp.swapaxes(_terms(written, side, head, given, method, all_writers), 1, 2), 0)
        for side, written in zip(sides, collected.written, strict=True)
    )
    return Read(collected.q, collected.k, _members(collected, firings, given, method), terms)


@partial(jax.jit, static_argnames=("method", "sides", "n_roles"))
def under_slices(
    found: Read,
    firings: Firings,
    given: Layer,
    key: Key[Array, ""],
    null: Int[Array, " null"],
    *,
    method: str,
    sides: tuple[str, ...],
    n_roles: int,
) -> Float[Array, "side block role writer null"]:
    """Sums of the statistic over each block's firings, S replaced by as many indices drawn from within the rank.

    Args:
        null: numbers of the nulls; a negative one stands for what was observed.
    """
    rank = jnp.broadcast_to(given.reader.scale.within[firings.blocks.head][:, None], found.members.shape)
    size = jnp.sum(found.members, axis=-1, dtype=jnp.int32)

    def one(number: Array) -> Array:
        drawn = random_slices(jax.random.fold_in(key, jnp.maximum(number, 0)), jnp.asarray(firings.name), size, rank)
        return jnp.where(number < 0, found.members, drawn)

    members = jnp.moveaxis(jax.vmap(one)(null), 0, -1).astype(found.q.dtype)
    weigh = coefficients(method, found.q, found.k, jnp.ones_like(rank))[..., None] * members[None]
    return _weighed(found, weigh, firings, given.coverage, sides, n_roles)


@partial(jax.jit, static_argnames=("method", "sides", "n_roles"))
def under_bases(
    found: Read,
    firings: Firings,
    given: Layer,
    rotation: Float[Array, "null head sv sv"],
    *,
    method: str,
    sides: tuple[str, ...],
    n_roles: int,
) -> tuple[Float[Array, "side block role writer null"], Int[Array, "block size null"]]:
    """The same in turned bases `q̂ R, k̂ R`, slices chosen anew in each, and how many firings have which |S|.

    Args:
        rotation: one a head and null, mixing nothing beyond the rank; the identity gives what was observed.
    """
    head, sizes = firings.blocks.head, jnp.arange(found.q.shape[-1] + 1, dtype=jnp.int32)
    R = jnp.moveaxis(rotation, 0, -1)[head]
    q, k = (einsum("gfk,gkmr->gfmr", each, R) for each in (found.q, found.k))
    within = given.reader.scale.within[head][:, None, :, None]
    members = _chosen(q * k, given, jnp.asarray(head)) & within
    if method == "all":
        members = jnp.broadcast_to(within, members.shape)
    members &= firings.filled[..., None, None]
    weigh = einsum("zgfmr,gkmr->zgfkr", coefficients(method, q, k, members), R)
    size = jnp.sum(members, axis=-2, dtype=jnp.int32)
    counted = (
        size[:, :, None] == jnp.broadcast_to(sizes[:, None], (*size.shape[:2], len(sizes), size.shape[-1]))
    ) & firings.filled[..., None, None]
    sums = _weighed(found, weigh, firings, given.coverage, sides, n_roles)
    return sums, jnp.sum(counted, axis=1, dtype=jnp.int32)


@partial(jax.jit, static_argnames=("method", "sides", "all_writers", "n_layers", "n_roles"))
def under_prompts(
    observed: Observed,
    firings: Firings,
    given: Layer,
    partner: Int[Array, "choice prompt"],
    *,
    method: str,
    sides: tuple[str, ...],
    all_writers: bool,
    n_layers: int,
    n_roles: int,
) -> Float[Array, "side block role writer choice"]:
    """The same with the writers' outputs of another prompt at the same position; s, the constant and x̃ are kept.

    Args:
        partner: whose outputs each prompt takes, for some choices of them; its own give what was observed.
    """
    head, at = jnp.asarray(firings.blocks.head), {"n_layers": n_layers, "sides": sides}
    own = gather(observed, firings, given.layer, **at)
    weigh = coefficients(method, own.q, own.k, _members(own, firings, given, method))
    present = _present(given, all_writers)
    kept = replace(firings, filled=firings.filled & firings.partnered)

    def one(_: None, other: Array) -> tuple[None, tuple[Array, ...]]:
        collected = gather(observed, _elsewhere(firings, other), given.layer, **at)
        weights = []
        for side, written, here in zip(sides, collected.written, own.written, strict=True):
            terms = _terms(replace(written, scale=here.scale), side, head, given, method, all_writers)
            weight = contribute(terms, weigh[SIDES.index(side)], present)
            weights.append(jnp.where(present, weight, 0))
        return None, tuple(weights)

    by_choice = jax.lax.scan(one, None, partner)[1]
    return _by_role([jnp.moveaxis(each, 0, -1) for each in by_choice], kept, given.coverage, sides, n_roles)


def _elsewhere(firings: Firings, other: Int[Array, " prompt"]) -> Firings:
    """The same places in other prompts, one for each."""
    blocks = replace(firings.blocks, prompt=other[firings.blocks.prompt])
    over = None if firings.over is None else firings.over.elsewhere(other)
    return replace(firings, blocks=blocks, over=over)


def _present(given: Layer, all_writers: bool) -> Bool[Array, " writer"]:
    n_layers, n_heads = given.cores.shape[2:4]
    return present_writers(n_layers, n_heads, given.layer, all_writers)


def _members(collected: Collected, firings: Firings, given: Layer, method: str) -> Bool[Array, "block slot sv"]:
    head = jnp.asarray(firings.blocks.head)
    if given.first is None or method == "all":
        members = sliced(collected.q, collected.k, head, given.reader, given.tau, method)[0].members
    else:
        products = (collected.q * collected.k)[..., None]
        members = _chosen(products, given, head)[..., 0] & given.reader.scale.within[head][:, None]
    return members & firings.filled[..., None]


def _chosen(
    products: Float[Array, "block slot sv null"], given: Layer, head: Int[Array, " block"]
) -> Bool[Array, "block slot sv null"]:
    """S: of single vectors, or of blocks of them by their sums of products, each block whole or not at all."""
    if given.first is None:
        return slice_members(products, given.tau)
    first = given.first[head]
    members = slice_members(einsum("gkm,gfmr->gfkr", first, products), given.tau)
    return einsum("gkm,gfkr->gfmr", first, members.astype(products.dtype)) > 0


def _terms(written: Written, side: str, head: Array, given: Layer, method: str, all_writers: bool) -> Array:
    read = readers_of(given.reader, given.cores, SIDES.index(side), head)
    return writer_terms(written, read, given.b_O, method=method, all_writers=all_writers)


def _weighed(
    found: Read,
    weigh: Float[Array, "2 block slot sv null"],
    firings: Firings,
    coverage: Array,
    sides: tuple[str, ...],
    n_roles: int,
) -> Float[Array, "side block role writer null"]:
    pairs = zip(sides, found.terms, strict=True)
    weights = [einsum("gfwk,gfkr->gfwr", terms, weigh[SIDES.index(side)]) for side, terms in pairs]
    return _by_role(weights, firings, coverage, sides, n_roles)


def _by_role(
    weights: Sequence[Float[Array, "block slot writer null"]],
    firings: Firings,
    coverage: Array,
    sides: tuple[str, ...],
    n_roles: int,
) -> Float[Array, "side block role writer null"]:
    """The shares of all writers, summed over each block's firings by the role of their token."""

    def one_side(side: str, weight: Array) -> Array:
        role = firings.role[SIDES.index(side)]
        here = (role[..., None] == jnp.arange(n_roles)[None, None]) & firings.filled[..., None]
        # Made before they are summed: a product that makes each of its entries anew takes much longer.
        share = jax.lax.optimization_barrier(edge_shares(jax.lax.optimization_barrier(weight), coverage))
        return einsum("gfo,gfwr->gowr", here.astype(share.dtype), share)

    return jnp.stack([one_side(side, each) for side, each in zip(sides, weights, strict=True)])
