"""The statistic of every candidate edge, observed and under nulls (METHOD.md, section 12).

A null changes one of two things. Slices and bases change which coefficients weigh the writers' terms: in a basis turned
by R the terms are `terms R`, so weighing them by c' is weighing the terms themselves by `R c'`, and no array of turned
terms is made. Shuffled prompts change the terms.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, UInt

from gpt2jax.numerics import einsum
from svdtrace.method.contributions import Reader, Written, coefficients, contribute
from svdtrace.method.edges import covering
from svdtrace.method.slices import choose_slices
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


@struct.dataclass
class Layer:
    """What the readers of one layer are read with; see `svdtrace.tracing.attribute.attribute`."""

    layer: Int[Array, ""]
    reader: Reader
    cores: Float[Array, "side head layer writer_head d_head sv"]
    b_O: Float[Array, "all_layers d_model"]
    tau: Float[Array, ""]
    coverage: Float[Array, ""]


@struct.dataclass
class Firings:
    """Firings in blocks of one head: where they stand, `name` that tells each from all others, `filled` which slots
    hold one, `role` the number of each side's token's role, `partnered` whether its prompt has a partner.
    """

    blocks: Blocks
    name: UInt[np.ndarray | Array, "block slot 2"]
    filled: Bool[np.ndarray | Array, "block slot"]
    role: Int[np.ndarray | Array, "side block slot"]
    partnered: Bool[np.ndarray | Array, "block slot"]


@struct.dataclass
class Read:
    """What firings read: q̂ and k̂, S as observed, and the writers' terms on each side asked for."""

    q: Float[Array, "block slot sv"]
    k: Float[Array, "block slot sv"]
    members: Bool[Array, "block slot sv"]
    terms: tuple[Float[Array, "block writer slot sv"], ...]
    present: Bool[Array, " writer"]


def edge_shares(
    weight: Float[Array, "*firing writer"], coverage: Float[Array, ""] | float
) -> Float[Array, "*firing writer"]:
    """`c_w / Σ_w |c_w|` where section 6 chooses w and c_w > 0, else 0; -inf stands for no writer."""
    chosen = covering(weight, coverage)
    size = jnp.sum(jnp.where(weight > -jnp.inf, jnp.abs(weight), 0), axis=-1, keepdims=True)
    counts = chosen & (weight > 0)
    return jnp.where(counts, weight / jnp.where(counts, size, 1), 0)


@partial(jax.jit, static_argnames=("method", "sides", "all_writers"))
def read(
    collected: Collected, firings: Firings, given: Layer, *, method: str, sides: tuple[str, ...], all_writers: bool
) -> Read:
    """Slices as observed and the writers' terms, once for all nulls."""
    q, k, head = collected.q, collected.k, jnp.asarray(firings.blocks.head)
    slices, _ = sliced(q, k, head, given.reader, given.tau, method)
    terms = tuple(
        _terms(written, side, head, given, method, all_writers)
        for side, written in zip(sides, collected.written, strict=True)
    )
    n_layers, n_heads = given.cores.shape[2:4]
    present = present_writers(n_layers, n_heads, given.layer, all_writers)
    return Read(q=q, k=k, members=slices.members & firings.filled[..., None], terms=terms, present=present)


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
) -> Float[Array, "null side block role writer"]:
    """Sums of the statistic over each block's firings, S replaced by as many indices drawn from within the rank.

    Args:
        null: numbers of the nulls; a negative one stands for what was observed.
    """
    rank = jnp.broadcast_to(given.reader.scale.within[firings.blocks.head][:, None], found.members.shape)
    size = jnp.sum(found.members, axis=-1, dtype=jnp.int32)

    def one(_: None, number: Array) -> tuple[None, Array]:
        drawn = random_slices(jax.random.fold_in(key, jnp.maximum(number, 0)), jnp.asarray(firings.name), size, rank)
        members = jnp.where(number < 0, found.members, drawn)
        weigh = coefficients(method, found.q, found.k, members)
        return None, _by_role(found, found.terms, weigh, firings, given.coverage, sides, n_roles)

    return jax.lax.scan(one, None, null)[1]


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
) -> tuple[Float[Array, "null side block role writer"], Int[Array, "null block slot"]]:
    """The same in turned bases `q̂ R, k̂ R`, slices chosen anew in each, and their |S|.

    Args:
        rotation: one a head and null, mixing nothing beyond the rank; the identity gives what was observed.
    """
    head = firings.blocks.head
    within = given.reader.scale.within[head][:, None]

    def one(_: None, turn: Array) -> tuple[None, tuple[Array, Array]]:
        R = turn[head]
        q, k = (einsum("gfk,gkm->gfm", each, R) for each in (found.q, found.k))
        products = q * k
        members = choose_slices(products, jnp.zeros_like(products), given.tau).members
        members = (jnp.broadcast_to(within, members.shape) if method == "all" else members) & firings.filled[..., None]
        weigh = einsum("zgfm,gkm->zgfk", coefficients(method, q, k, members), R)
        sums = _by_role(found, found.terms, weigh, firings, given.coverage, sides, n_roles)
        return None, (sums, jnp.sum(members, axis=-1, dtype=jnp.int32))

    return jax.lax.scan(one, None, rotation)[1]


@partial(jax.jit, static_argnames=("method", "sides", "all_writers", "n_layers", "n_roles"))
def under_prompts(
    observed: Observed,
    found: Read,
    firings: Firings,
    given: Layer,
    partner: Int[Array, "null prompt"],
    *,
    method: str,
    sides: tuple[str, ...],
    all_writers: bool,
    n_layers: int,
    n_roles: int,
) -> Float[Array, "null side block role writer"]:
    """The same with the writers' outputs of another prompt at the same position; s, the constant and x̃ are kept.

    Args:
        partner: whose outputs each prompt takes; its own give what was observed.
    """
    blocks, head = firings.blocks, jnp.asarray(firings.blocks.head)
    weigh = coefficients(method, found.q, found.k, found.members)
    scale = observed.scale[given.layer]
    own = {"dest": scale[blocks.prompt, blocks.dest], "src": scale[blocks.prompt, blocks.src]}
    kept = replace(firings, filled=firings.filled & firings.partnered)

    def one(_: None, other: Array) -> tuple[None, Array]:
        elsewhere = replace(blocks, prompt=other[blocks.prompt])
        collected = collect(observed, elsewhere, given.layer, n_layers=n_layers, sides=sides)
        terms = tuple(
            _terms(replace(written, scale=own[side]), side, head, given, method, all_writers)
            for side, written in zip(sides, collected.written, strict=True)
        )
        return None, _by_role(found, terms, weigh, kept, given.coverage, sides, n_roles)

    return jax.lax.scan(one, None, partner)[1]


def _terms(written: Written, side: str, head: Array, given: Layer, method: str, all_writers: bool) -> Array:
    read = readers_of(given.reader, given.cores, SIDES.index(side), head)
    return writer_terms(written, read, given.b_O, method=method, all_writers=all_writers)


def _by_role(
    found: Read,
    terms: tuple[Array, ...],
    weigh: Float[Array, "2 block slot sv"],
    firings: Firings,
    coverage: Array,
    sides: tuple[str, ...],
    n_roles: int,
) -> Float[Array, "side block role writer"]:
    """The shares of all writers, summed over each block's firings by the role of their token."""

    def one_side(side: str, terms: Array) -> Array:
        z = SIDES.index(side)
        weight = contribute(terms, weigh[z], found.present)
        share = edge_shares(weight, coverage)
        here = (firings.role[z][..., None] == jnp.arange(n_roles)[None, None]) & firings.filled[..., None]
        return einsum("gfr,gfw->grw", here.astype(share.dtype), share)

    return jnp.stack([one_side(side, each) for side, each in zip(sides, terms, strict=True)])
