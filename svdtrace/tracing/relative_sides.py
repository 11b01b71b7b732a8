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
from svdtrace.method.relative import Row, about_mean, at_key
from svdtrace.method.relative_bounds import contribution_bound
from svdtrace.method.taking import Chosen, after_keys, after_rows, cover, falling, take_until
from svdtrace.tracing.attribute import (
    SIDES,
    Blocks,
    HeadReader,
    collect,
    head_by_head,
    in_blocks,
    one_reader,
    writer_terms,
)
from svdtrace.tracing.observe import Observed

GROUP_SIZE = 4


@struct.dataclass
class Groups:
    """Firings of a call that share a prompt: their places among all its slots, -1 where none; filled ones first."""

    prompt: Int[np.ndarray | Array, " group"]
    slot: Int[np.ndarray | Array, "group member"]


@struct.dataclass
class SideFound:
    """One side of a call's firings: values of candidates, which are edges, `own` = c_{w,j} on the source side.

    Candidates are writers, or under `keys = all` writers' outputs at each key, numbered w · T + t.
    """

    weight: Float[Array, "*firing candidate"]
    choice: Chosen
    own: Float[Array, "*firing writer"] | None


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


class Plain:
    """A function for a loop whose shapes are asked for beforehand: it gives arrays alone, since shapes in their place
    would not pass the checks of our own pytrees.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._tree = function, jax.tree.structure(None)

    def __call__(self, *given: Any) -> list[Array]:
        """What comes of it, flattened."""
        leaves, self._tree = jax.tree.flatten(self._function(*given))
        return leaves

    def whole(self, leaves: list[Array]) -> Any:
        """The same put together, once it was called."""
        return self._tree.unflatten(leaves)


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

    def of_filled(self, found: SideFound) -> SideFound:
        """No edges in empty slots."""
        chosen = found.choice.chosen & self.filled[..., None]
        return replace(found, choice=replace(found.choice, chosen=chosen))


def destination(
    observed: Observed,
    blocks: Blocks,
    heads: Heads,
    firings: Firings,
    rule: Rule,
    attn_scale: Float[Array, ""],
) -> SideFound:
    """The destination's side."""
    written = collect(observed, blocks, heads.layer, n_layers=heads.n_layers, sides=("dest",)).written[0]
    present = heads.present[:, None]

    def weigh(own: HeadReader, part: Any) -> SideFound:
        (firings, written), (prompt, head), threshold = part
        terms, row = writer_terms(written, own, heads.b_O, method="exact", all_writers=heads.all_writers), firings.row
        inside = firings.members.astype(terms.dtype)
        weight = _of_present(jnp.sum(terms * firings.coefficient[:, None], axis=-1), heads.present)
        each = jnp.sum(jnp.abs(terms) * (inside * row.spread)[:, None], axis=-1)
        # Looked up here, since those of all blocks would take more room than all else.
        keys = jnp.where(firings.members[..., None, :], keys_of(observed, heads.layer, prompt, head[:, None]), 0)
        rows = jnp.where(present, einsum("gwfk,gftk->gfwt", terms, attn_scale * keys), 0)
        bound = contribution_bound(
            jnp.max(jnp.where(present, each, 0), axis=-2), rows, row.allowed, firings.error, firings.moved
        )
        if rule.select == "cover":
            return SideFound(weight, cover(weight, bound, rule.coverage), None)
        after = after_rows(row.scores, rows, falling(weight), row.src, row.allowed)
        return SideFound(weight, take_until(weight, after, firings.pattern, threshold, bound), None)

    place = jnp.asarray(blocks.prompt), heads.head
    return heads.of_filled(heads.block_by_block("dest", weigh, ((firings, written), place, rule.threshold)))


def keys_of(
    observed: Observed, layer: Int[Array, ""], prompt: Int[Array, "*firing"], head: Int[Array, "*#firing"]
) -> Float[Array, "*firing tok sv"]:
    """k̂ of every token, for firings of one layer."""
    keys = jax.lax.dynamic_index_in_dim(observed.k, layer, keepdims=False)
    # In bounds, and said to be: checking would double the time.
    return keys.at[prompt, :, head].get(mode="promise_in_bounds")


def source(observed: Observed, groups: Groups, heads: Heads, firings: Firings, rule: Rule) -> SideFound:
    """The source side."""
    # The constant's row is the same at every key.
    rivals = heads.present.at[-1].set(False) if heads.all_writers else heads.present
    asked = _asked(firings.coefficient, heads)
    flat = jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), (firings, asked))
    flat_rule = replace(rule, threshold=rule.threshold.reshape(-1))
    read = partial(_keys_read, observed, heads)
    every = _sources(flat[0], flat_rule, flat[1], groups, read, rivals)
    return heads.of_filled(jax.tree.map(lambda each: each.reshape(*heads.filled.shape, *each.shape[1:]), every))


def _of_present(weight: Float[Array, "*block writer slot"], present: Bool[Array, " writer"]) -> Array:
    return jnp.where(present, jnp.swapaxes(weight, -1, -2), -jnp.inf)


def _asked(coefficient: Float[Array, "block slot sv"], heads: Heads) -> tuple[Array, Array | None]:
    """What firings ask of what was written at the keys: of each head's z, [block slot layer writer_head d_head], and
    of what else stands in the residual, [block slot d_model].
    """

    def ask(own: HeadReader, coefficient: Array) -> tuple[Array, Array | None]:
        of_heads = einsum("gfk,gmahk->gfmah", coefficient, own.cores)
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

    def own(values: Array, n: int) -> Array:
        return jax.lax.dynamic_index_in_dim(values[:n], prompt, axis=1, keepdims=False)

    scale = jax.lax.dynamic_index_in_dim(observed.scale, layer, keepdims=False)[prompt]
    by_head = einsum("fmah,mtah->fmat", of_heads, own(observed.z, n_layers))
    assert observed.written is not None
    norm = observed.written[jnp.minimum(layer, len(observed.written) - 1), prompt, :, :n_layers]
    rows = [by_head.reshape(len(by_head), -1, len(scale))]
    sizes = [jnp.moveaxis(norm, 0, -1).reshape(-1, len(scale))]
    if rest is not None and observed.mlp_out is not None and observed.embed is not None and observed.pos is not None:
        stem = jnp.stack([observed.embed[prompt], observed.pos[prompt]])
        others = jnp.concatenate([own(observed.mlp_out, n_layers), stem])
        biases = heads.b_O[:n_layers].astype(rest.dtype)

        def norms(values: Array) -> Array:
            return jnp.linalg.norm(heads.reader.gain * centre(values), axis=-1)

        of_biases = einsum("fd,md->fm", rest, biases)[..., None]
        rows += [jnp.broadcast_to(of_biases, (*of_biases.shape[:-1], scale.shape[-1]))]
        rows += [einsum("fd,ctd->fct", rest, others), jnp.zeros((len(rest), 1, len(scale)), rest.dtype)]
        sizes += [jnp.broadcast_to(norms(biases)[:, None], (n_layers, len(scale))), norms(others)]
        sizes += [jnp.zeros((1, len(scale)), rest.dtype)]
    return jnp.concatenate(rows, axis=-2) / scale, jnp.concatenate(sizes, axis=-2) / scale


def _sources(
    firings: Firings, rule: Rule, asked: Any, groups: Groups, read: Any, present: Bool[Array, " writer"]
) -> SideFound:
    """The source side, prompt by prompt; arrays of all slots, one axis."""
    n_slots = len(firings.dest)

    def choose(group: Array) -> SideFound:
        slot = jnp.maximum(groups.slot[group], 0)
        mine, its, threshold = jax.tree.map(lambda each: each[slot], (firings, asked, rule.threshold))
        rows, sizes = read(groups.prompt[group], its)
        return choose_sources(mine, replace(rule, threshold=threshold), rows, sizes, present)

    def step(group: Array, found: list[Array]) -> list[Array]:
        # What is beyond the end is not written.
        at = jnp.where(groups.slot[group] < 0, n_slots, groups.slot[group])
        return jax.tree.map(lambda whole, each: whole.at[at].set(each, mode="drop"), found, of_group(group))

    of_group = Plain(choose)
    shapes = jax.eval_shape(lambda: of_group(jnp.int32(0)))
    empty = jax.tree.map(lambda each: jnp.zeros((n_slots, *each.shape[1:]), each.dtype), shapes)
    n_groups = jnp.sum(jnp.any(groups.slot >= 0, axis=-1), dtype=jnp.int32)
    return of_group.whole(jax.lax.fori_loop(0, n_groups, step, empty))


def choose_sources(
    firings: Firings,
    rule: Rule,
    rows: Float[Array, "firing writer tok"],
    sizes: Float[Array, "writer tok"],
    present: Bool[Array, " writer"],
) -> SideFound:
    """Values and edges of the source side, from what every writer put into the scores, key by key.

    Args:
        rows: ρ_w[t]; sizes: ‖x_w(t)‖.
        present: the candidates among the writers.
    """
    row, there = firings.row, present[:, None]
    beyond = jnp.where(there, about_mean(rows, row.allowed), 0)
    by_key = row.weights[..., None, :] * beyond
    summed, own = jnp.sum(by_key, axis=-1), at_key(by_key, row.src)
    # By Cauchy and Schwarz; the vectors of S are orthonormal.
    asked = jnp.linalg.norm(jnp.where(firings.members, firings.root * firings.coefficient, 0), axis=-1)
    read = einsum("ft,wt->fw", jnp.abs(row.weights), jnp.where(there, sizes, 0))
    bound = contribution_bound(asked * jnp.max(read, axis=-1), beyond, row.allowed, firings.error, firings.moved)
    if rule.keys == "all":
        # With two keys both values of a writer are equal: it is one candidate, at j.
        two, at_src = (firings.dest == 1)[:, None, None], _at_src(row)[:, None, :]
        values = jnp.where(two, jnp.where(at_src, summed[..., None], -jnp.inf), by_key)
        parts = jnp.where(two, 2 * jnp.where(at_src, beyond, 0), beyond)
        values = jnp.where(there & row.allowed[:, None, :], values, -jnp.inf)
        weight = values.reshape(len(values), -1)
    else:
        at_src = _at_src(row)[:, None, :]
        parts = beyond if rule.keys == "summed" else jnp.where(at_src, beyond, 0)
        values = weight = jnp.where(present, summed if rule.keys == "summed" else own, -jnp.inf)
    if rule.select == "cover":
        return SideFound(weight, cover(weight, bound, rule.coverage), own)
    after = (after_keys if rule.keys == "all" else _after_rows)(
        row.scores, parts, values, falling(weight), row.src, row.allowed
    )
    return SideFound(weight, take_until(weight, after, firings.pattern, rule.threshold, bound), own)


def _after_rows(scores: Array, parts: Array, _values: Array, order: Array, src: Array, allowed: Array) -> Array:
    return after_rows(scores, parts, order, src, allowed)


def _at_src(row: Row) -> Bool[Array, "firing tok"]:
    return jnp.arange(row.scores.shape[-1], dtype=row.src.dtype) == row.src[..., None]
