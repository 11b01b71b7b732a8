"""The two sides of firings by relative attention (METHOD.md, section 14): who wrote what they read, and which of the
writers are edges.

The destination's contributions are `exact`'s with κ in place of the key. On the source side every key counts: what the
reader asks of each writer's output, one vector a writer and firing, meets what was written at all keys in one product
for the firings of a prompt, so that no firing gathers the keys' outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import centre, einsum
from svdtrace.method.contributions import Reader
from svdtrace.method.relative import Row, about_mean, is_key, rows_range
from svdtrace.method.relative_bounds import contribution_bound
from svdtrace.method.taking import Chosen, after_keys, after_rows, cover, falling, take_until
from svdtrace.tracing.attribute import (
    SIDES,
    Blocks,
    HeadReader,
    collect,
    in_blocks,
    one_reader,
    writer_terms,
)
from svdtrace.tracing.loops import Plain, head_by_head, in_turn
from svdtrace.tracing.observe import Observed

GROUP_SIZE = 16
CANDIDATES_AT_ONCE = 2**18
"""So many candidates of firings are chosen from at once, but at least a block's: arrays of 1 MiB."""


@struct.dataclass
class Groups:
    """Firings of a call that share a prompt: their places among all its slots, -1 where none; filled ones first."""

    prompt: Int[np.ndarray | Array, " group"]
    slot: Int[np.ndarray | Array, "group member"]


@struct.dataclass
class Valued:
    """One side's candidates before any is chosen: values, `own` = c_{w,j} on the source side, what the bound of a value
    is made of (`svdtrace.method.relative_bounds.contribution_bound`), and under `until` p_j after each, in falling
    order, is taken out.
    """

    weight: Float[Array, "*firing candidate"]
    own: Float[Array, "*firing writer"] | None
    amount: Float[Array, "*firing"]
    widest: Float[Array, "*firing"]
    after: Float[Array, "*firing candidate"] | None


@struct.dataclass
class SideFound:
    """One side of a call's firings: values of candidates, which are edges, `own` = c_{w,j} on the source side, and the
    `widest` of the candidates' rows.

    Candidates are writers, or under `keys = all` writers' outputs at each key, numbered w · T + t.
    """

    weight: Float[Array, "*firing candidate"]
    choice: Chosen
    own: Float[Array, "*firing writer"] | None
    widest: Float[Array, "*firing"]


@struct.dataclass
class Rule:
    """How edges are chosen: `threshold` θ of each firing's destination."""

    coverage: Float[Array, ""]
    threshold: Float[Array, "*firing"]
    select: str = struct.field(pytree_node=False)
    keys: str = struct.field(pytree_node=False)


@struct.dataclass
class Firings:
    """What both sides need of firings: rows, p_j, which vectors S has and what they are weighed with, and the bounds'
    factors `error` e and `moved` δ/4 of METHOD.md, section 14.4.
    """

    row: Row
    dest: Int[Array, "*firing"]
    pattern: Float[Array, "*firing"]
    members: Bool[Array, "*firing sv"]
    coefficient: Float[Array, "*firing sv"]
    root: Float[Array, "*firing sv"]
    error: Float[Array, "*firing"]
    moved: Float[Array, "*firing"]


def in_groups(row: Int[np.ndarray, "block slot"], prompt: Int[np.ndarray, "block slot"]) -> Groups:
    """Arrange a call's firings by prompt.

    Args:
        row: -1 in empty slots.
    """
    slots = np.flatnonzero(row.ravel() >= 0).astype(np.int32)
    arranged, owner = in_blocks(slots, prompt.ravel()[slots], GROUP_SIZE)
    arranged, owner = arranged.reshape(-1, GROUP_SIZE), owner.ravel()
    # Each firing may have a prompt of its own; a call's shape does not depend on it.
    lacking = max(0, row.size - len(arranged))
    slot = np.pad(arranged, ((0, lacking), (0, 0)), constant_values=-1)[: row.size]
    return Groups(prompt=np.pad(owner, (0, lacking))[: row.size].astype(np.int32), slot=slot.astype(np.int32))


@struct.dataclass
class Heads:
    """The heads of one layer that read, and who may have written: `head` of every block, which slots are `filled`,
    which of the writers of `n_layers` layers are `present`.
    """

    reader: Reader
    cores: Float[Array, "side head layer writer_head d_head sv"]
    head: Int[Array, " block"]
    filled: Bool[Array, "block slot"]
    b_O: Float[Array, "all_layers d_model"]
    layer: Int[Array, ""]
    present: Bool[Array, " writer"]
    n_layers: int = struct.field(pytree_node=False)
    all_writers: bool = struct.field(pytree_node=False)

    def block_by_block(self, side: str, function: Callable[[HeadReader, Any], Any], given: Any) -> Any:
        """What a function makes of every block's head and of its part of `given`."""

        def read_by(head: Array) -> HeadReader:
            return one_reader(self.reader, self.cores, SIDES.index(side), head)

        plain = Plain(function)
        return plain.whole(head_by_head(read_by, plain, given, self.head, jnp.any(self.filled, axis=-1)))

    def chosen(self, valued: Valued, firings: Firings, rule: Rule) -> SideFound:
        """What is chosen, of many firings at once; no edges in empty slots."""

        def choose(part: tuple[Valued, Array, Array, Array]) -> Chosen:
            valued, bound, pattern, threshold = part
            if valued.after is None:
                return cover(valued.weight, bound, rule.coverage)
            return take_until(valued.weight, valued.after, pattern, threshold, bound)

        n_candidates = valued.weight.shape[1] * valued.weight.shape[2]
        bound = contribution_bound(valued.amount, valued.widest, firings.error, firings.moved)
        given = valued, bound, firings.pattern, rule.threshold
        choice = in_turn(choose, given, CANDIDATES_AT_ONCE // n_candidates, self.filled)
        choice = replace(choice, chosen=choice.chosen & self.filled[..., None])
        return SideFound(valued.weight, choice, valued.own, valued.widest)


def destination(
    observed: Observed,
    blocks: Blocks,
    heads: Heads,
    firings: Firings,
    rule: Rule,
    attn_scale: Float[Array, ""],
) -> SideFound:
    """The destination's side."""
    present = heads.present[:, None]

    def weigh(own: HeadReader, part: Any) -> Valued:
        firings, blocks = part
        # Looked up here, as the keys are, since those of all blocks would take more room than all else.
        written = collect(observed, blocks, heads.layer, n_layers=heads.n_layers, sides=("dest",)).written[0]
        terms, row = writer_terms(written, own, heads.b_O, method="exact", all_writers=heads.all_writers), firings.row
        inside = firings.members.astype(terms.dtype)
        weight = _of_present(_added(terms * firings.coefficient[:, None]), heads.present)
        each = _added(jnp.abs(terms) * (inside * row.spread)[:, None])
        keys = keys_of(observed, heads.layer, blocks.prompt, blocks.head[:, None])
        # Against k̂_j: a row's constant changes no pattern.
        beyond = keys - jnp.take_along_axis(keys, row.src[..., None, None], axis=-2)
        beyond = jnp.where(row.allowed[..., None] & firings.members[..., None, :], attn_scale * beyond, 0)
        rows = jnp.where(present, einsum("gwfk,gftk->gfwt", terms, beyond), 0)
        amount, widest = jnp.max(jnp.where(present, each, 0), axis=-2), jnp.max(rows_range(rows), axis=-1)
        after = None
        if rule.select == "until":
            after = after_rows(row.scores, rows, falling(weight), row.src, row.allowed)
        return Valued(weight, None, amount, widest, after)

    return heads.chosen(
        heads.block_by_block("dest", weigh, (firings, jax.tree.map(jnp.asarray, blocks))), firings, rule
    )


def _added(values: Float[Array, "*axes sv"]) -> Float[Array, "*axes"]:
    """The sum over the last axis, as a product: XLA's own sums on CPU take three times as long."""
    return einsum("...k,k->...", values, jnp.ones(values.shape[-1], values.dtype))


def keys_of(
    observed: Observed, layer: Int[Array, ""], prompt: Int[Array, "*firing"], head: Int[Array, "*#firing"]
) -> Float[Array, "*firing tok sv"]:
    """k̂ of every token, for firings of one layer."""
    token = jnp.arange(observed.k.shape[2])
    # In bounds, and said to be: checking would double the time.
    at = observed.k.at[layer, prompt[..., None], token, head[..., None]]
    return at.get(mode="promise_in_bounds")


def source(observed: Observed, groups: Groups, heads: Heads, firings: Firings, rule: Rule) -> SideFound:
    """The source side, near a tie where a bound larger than METHOD.md's says so (`svdtrace.tracing.relative_ties`)."""
    # The constant's row is the same at every key.
    rivals = heads.present.at[-1].set(False) if heads.all_writers else heads.present
    asked = _asked(firings.coefficient, heads)
    flat = jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), (firings, asked))
    every = _sources(flat[0], rule, flat[1], groups, partial(_keys_read, observed, heads), rivals)
    by_block = jax.tree.map(lambda each: each.reshape(*heads.filled.shape, *each.shape[1:]), every)
    return heads.chosen(by_block, firings, rule)


def _of_present(weight: Float[Array, "*block writer slot"], present: Bool[Array, " writer"]) -> Array:
    return jnp.where(present, jnp.swapaxes(weight, -1, -2), -jnp.inf)


def _asked(coefficient: Float[Array, "block slot sv"], heads: Heads) -> tuple[Array, Array | None]:
    """What firings ask of what was written at the keys: of each head's z, [block slot layer writer_head d_head], and
    of what else stands in the residual, [block slot d_model].
    """

    def ask(own: HeadReader, coefficient: Array) -> tuple[Array, Array | None]:
        # Cores first: taken second they would be turned round for every block.
        of_heads = jnp.moveaxis(einsum("gmahk,gfk->gmahf", own.cores, coefficient), -1, 1)
        return of_heads, einsum("gfk,gdk->gfd", coefficient, own.weights) if heads.all_writers else None

    return heads.block_by_block("src", ask, coefficient)


def _keys_read(
    observed: Observed,
    heads: Heads,
    prompt: Int[Array, ""],
    asked: tuple[Float[Array, "member layer writer_head d_head"], Float[Array, "member d_model"] | None],
) -> tuple[Float[Array, "member writer tok"], Float[Array, "writer tok"]]:
    """ρ_w[t] of a prompt's firings and every writer but the constant, and ‖x_w(t)‖, which bounds are made of."""
    (of_heads, rest), layer, n_layers = asked, heads.layer, heads.n_layers
    assert observed.keys is not None
    assert observed.written is not None
    written = written_in(observed, prompt, heads)
    gain = jnp.minimum(layer, len(observed.written) - 1)
    scale = jax.lax.dynamic_index_in_dim(observed.scale, layer, keepdims=False)[prompt]
    by_head = einsum("fmah,math->fmat", of_heads, written.z)
    rows = [by_head.reshape(len(by_head), -1, len(scale))]
    sizes = [jnp.moveaxis(observed.written[gain, prompt, :, :n_layers], 0, -1).reshape(-1, len(scale))]
    if rest is not None and written.others is not None:
        assert observed.keys.norms is not None
        norms = observed.keys.norms[:, prompt, gain]
        norm_of_biases = jnp.linalg.norm(heads.reader.gain * centre(heads.b_O[:n_layers].astype(rest.dtype)), axis=-1)
        of_others = einsum("cd,fd->cf", written.others, rest).T
        of_biases = of_others[:, -n_layers:, None]
        rows += [jnp.broadcast_to(of_biases, (*of_biases.shape[:-1], len(scale)))]
        rows += [of_others[:, :-n_layers].reshape(len(rest), -1, len(scale))]
        rows += [jnp.zeros((len(rest), 1, len(scale)), rest.dtype)]
        sizes += [jnp.broadcast_to(norm_of_biases[:, None], (n_layers, len(scale))), norms[:n_layers], norms[-2:]]
        sizes += [jnp.zeros((1, len(scale)), rest.dtype)]
    return jnp.concatenate(rows, axis=-2) / scale, jnp.concatenate(sizes, axis=-2) / scale


@struct.dataclass
class WrittenIn:
    """What was written in a prompt at every key: z of heads, and the rest of the residual: MLPs, embed and pos key by
    key, then b_O of the layers.
    """

    z: Float[Array, "layer writer_head tok d_head"]
    others: Float[Array, "component_tok d_model"] | None


def written_in(observed: Observed, prompt: Int[Array, ""], heads: Heads) -> WrittenIn:
    """What was written in one prompt."""
    assert observed.keys is not None

    def own(values: Array, axis: int = 1) -> Array:
        return jax.lax.dynamic_index_in_dim(values, prompt, axis=axis, keepdims=False)

    n_layers, others = heads.n_layers, None
    if heads.all_writers and observed.mlp_out is not None and observed.embed is not None and observed.pos is not None:
        mlps = own(observed.mlp_out[:n_layers]).reshape(-1, heads.b_O.shape[-1])
        stem = own(observed.embed, 0), own(observed.pos, 0)
        others = jnp.concatenate([mlps, *stem, heads.b_O[:n_layers].astype(mlps.dtype)])
    return WrittenIn(own(observed.keys.z[:n_layers]), others)


def _sources(
    firings: Firings, rule: Rule, asked: Any, groups: Groups, read: Any, present: Bool[Array, " writer"]
) -> Valued:
    """The source side, prompt by prompt; arrays of all slots, one axis."""
    n_slots = len(firings.dest)

    def value(group: Array) -> Valued:
        slot = jnp.maximum(groups.slot[group], 0)
        mine, its = jax.tree.map(lambda each: each[slot], (firings, asked))
        rows, sizes = read(groups.prompt[group], its)
        return value_sources(mine, rule, rows, sizes, present)

    def step(group: Array, found: list[Array]) -> list[Array]:
        # What is beyond the end is not written.
        at = jnp.where(groups.slot[group] < 0, n_slots, groups.slot[group])
        return jax.tree.map(lambda whole, each: whole.at[at].set(each, mode="drop"), found, of_group(group))

    of_group = Plain(value)
    shapes = jax.eval_shape(lambda: of_group(jnp.int32(0)))
    empty = jax.tree.map(lambda each: jnp.zeros((n_slots, *each.shape[1:]), each.dtype), shapes)
    n_groups = jnp.sum(jnp.any(groups.slot >= 0, axis=-1), dtype=jnp.int32)
    return of_group.whole(jax.lax.fori_loop(0, n_groups, step, empty))


def value_sources(
    firings: Firings,
    rule: Rule,
    rows: Float[Array, "firing writer tok"],
    sizes: Float[Array, "writer tok"],
    present: Bool[Array, " writer"],
) -> Valued:
    """Values on the source side, from what every writer put into the scores, key by key.

    Args:
        rows: ρ_w[t]; sizes: ‖x_w(t)‖.
        present: the candidates among the writers.
    """
    row, there, at_src = firings.row, present[:, None], is_key(firings.row.src, rows.shape[-1])
    beyond = jnp.where(there, about_mean(rows, row.allowed), 0)
    both = jnp.stack([row.weights, jnp.where(at_src, row.weights, 0)], axis=-1)
    summed, own = jnp.moveaxis(einsum("fwt,ftb->fwb", beyond, both), -1, 0)
    # At least section 14.4's, by Cauchy and Schwarz, since the vectors of S are orthonormal.
    asked = jnp.linalg.norm(jnp.where(firings.members, firings.root * firings.coefficient, 0), axis=-1)
    read = einsum("ft,wt->fw", jnp.abs(row.weights), jnp.where(there, sizes, 0))
    amount, widest = asked * jnp.max(read, axis=-1), jnp.max(rows_range(beyond), axis=-1)
    if rule.keys == "all":
        # With two keys both values of a writer are equal: it is one candidate, at j.
        two, here = (firings.dest == 1)[:, None, None], at_src[:, None, :]
        by_key = row.weights[:, None, :] * beyond
        values = jnp.where(two, jnp.where(here, summed[..., None], -jnp.inf), by_key)
        parts = jnp.where(two, 2 * jnp.where(here, beyond, 0), beyond)
        values = jnp.where(there & row.allowed[:, None, :], values, -jnp.inf)
        weight = values.reshape(len(values), -1)
    else:
        parts = beyond if rule.keys == "summed" else jnp.where(at_src[:, None, :], beyond, 0)
        values = weight = jnp.where(present, summed if rule.keys == "summed" else own, -jnp.inf)
    after = None
    if rule.select == "until":
        taken_out = after_keys if rule.keys == "all" else _after_rows
        after = taken_out(row.scores, parts, values, falling(weight), row.src, row.allowed)
    return Valued(weight, own, amount, widest, after)


def _after_rows(scores: Array, parts: Array, _values: Array, order: Array, src: Array, allowed: Array) -> Array:
    return after_rows(scores, parts, order, src, allowed)
