"""One layer's firings by relative attention (METHOD.md, section 14): what `svdtrace.tracing.attribute` does for the
other methods, with a row of path weights a firing.

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
from svdtrace.method.bounds import ACTIVATION_ERROR, TURNING, fineness
from svdtrace.method.contributions import Reader
from svdtrace.method.relative import Row, about_mean, at_key, pattern_at, quadrature_error, row_of, rows_range
from svdtrace.method.slices import Slices, choose_slices
from svdtrace.method.taking import Chosen, after_keys, after_rows, cover, falling, take_until
from svdtrace.tracing.attribute import (
    SIDES,
    Blocks,
    HeadReader,
    collect,
    head_by_head,
    in_blocks,
    one_reader,
    present_writers,
    writer_terms,
)
from svdtrace.tracing.observe import Observed

GROUP_SIZE = 16


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
class RelativeFound:
    """What comes of a call: slices of the P_k and these, the quadrature error, path weights M, the coefficients of the
    slice's vectors on the sides traced (κ_k, a q̂_k; 0 outside S), and the sides.
    """

    slices: Slices
    products: Float[Array, "block slot sv"]
    quadrature: Float[Array, "block slot"]
    weights: Float[Array, "block slot tok"]
    coefficients: tuple[Float[Array, "block slot sv"], ...]
    sides: tuple[SideFound, ...]


@struct.dataclass
class Rule:
    """How edges are chosen: `threshold` θ of each firing's destination."""

    coverage: Float[Array, ""]
    threshold: Float[Array, "*firing"]
    select: str = struct.field(pytree_node=False)
    keys: str = struct.field(pytree_node=False)


@struct.dataclass
class Firings:
    """What both sides need of firings: rows, p_j, the vectors of S, and the bounds' factors `error` e and `moved` δ/4
    of METHOD.md, section 14.4.
    """

    row: Row
    dest: Int[Array, "*firing"]
    pattern: Float[Array, "*firing"]
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


@partial(jax.jit, static_argnames=("n_layers", "sides", "all_writers", "select", "keys"))
def attribute_relative(
    observed: Observed,
    blocks: Blocks,
    groups: Groups,
    filled: Bool[Array, "block slot"],
    layer: Int[Array, ""],
    reader: Reader,
    cores: Float[Array, "side head layer writer_head d_head sv"],
    b_O: Float[Array, "all_layers d_model"],
    attn_scale: Float[Array, ""],
    tau: Float[Array, ""],
    coverage: Float[Array, ""],
    thresholds: Float[Array, " dest"],
    *,
    n_layers: int,
    sides: tuple[str, ...],
    all_writers: bool,
    select: str,
    keys: str,
) -> RelativeFound:
    """Slices, contributions and edges of firings of one layer.

    Args:
        filled: which slots hold a firing.
        n_layers: writers of so many layers are gathered; those from `layer` on are masked.
        thresholds: θ of every destination.
    """
    prompt, dest, src, head = (jnp.asarray(each) for each in (blocks.prompt, blocks.dest, blocks.src, blocks.head))
    q = jax.lax.dynamic_index_in_dim(observed.q, layer, keepdims=False)[prompt, dest, head[:, None]]
    every_k = jax.lax.dynamic_index_in_dim(observed.k, layer, keepdims=False)[prompt, :, head[:, None]]
    row = row_of(q, every_k, dest, src, attn_scale)
    products = q * row.kappa
    root, turn = (jnp.broadcast_to(each[head][:, None], q.shape) for each in (reader.scale.root, reader.scale.turn))
    slices = choose_slices(products, products_bounds(q, row, root, turn), tau)
    members = slices.members & filled[..., None]
    pattern = pattern_at(row.scores, row.src, row.allowed)
    quadrature = quadrature_error(jnp.sum(products, axis=-1), pattern, row.allowed)
    moved = score_bound(q, every_k, row, root, attn_scale) / 4
    rule = Rule(coverage, thresholds[dest], select, keys)
    coefficients = {"dest": jnp.where(members, row.kappa, 0), "src": jnp.where(members, attn_scale * q, 0)}

    def of(side: str) -> Firings:
        error = turning_error(turn, members)
        return Firings(row, dest, pattern, coefficients[side], root, error, moved)

    present = present_writers(n_layers, cores.shape[3], layer, all_writers)
    found = []
    for side in sides:
        if side == "dest":
            written = collect(observed, blocks, layer, n_layers=n_layers, sides=("dest",)).written[0]
            keys_in = attn_scale * jnp.where(members[..., None, :], every_k, 0) if select == "until" else None
            given = (of(side), written, keys_in)
            found.append(_destination(given, rule, head, filled, reader, cores, b_O, present, all_writers))
        else:
            # The constant's row is the same at every key.
            rivals = present.at[-1].set(False) if all_writers else present
            asked = _asked(coefficients[side], head, filled, reader, cores, all_writers)
            flat = jax.tree.map(lambda each: each.reshape(-1, *each.shape[2:]), (of(side), asked))
            flat_rule = replace(rule, threshold=rule.threshold.reshape(-1))
            read = partial(_keys_read, observed, reader=reader, b_O=b_O, layer=layer, n_layers=n_layers)
            every = _sources(flat[0], flat_rule, flat[1], groups, read, rivals)
            found.append(jax.tree.map(lambda each: each.reshape(*filled.shape, *each.shape[1:]), every))
    sided = tuple(
        replace(each, choice=replace(each.choice, chosen=each.choice.chosen & filled[..., None])) for each in found
    )
    return RelativeFound(
        slices=replace(slices, members=members),
        products=products,
        quadrature=quadrature,
        weights=row.weights,
        coefficients=tuple(coefficients[side] for side in sides),
        sides=sided,
    )


def products_bounds(q: Array, row: Row, root: Array, turn: Array) -> Float[Array, "*firing sv"]:
    """Bound of P_k: `(|q̂| + √σ_0) a Σ_t |M_t| ‖k̂_t − k̂_j‖ (5e-5 + θ_k)`; 0 beyond the rank."""
    size = (jnp.linalg.norm(q, axis=-1) + root[..., 0]) * row.apart
    return jnp.where(root > 0, size[..., None] * (ACTIVATION_ERROR * fineness(q.dtype) + turn), 0)


def score_bound(q: Array, every_k: Array, row: Row, root: Array, attn_scale: Array) -> Float[Array, "*firing"]:
    """δ: the largest bound of a scaled score of the row."""
    largest = jnp.max(jnp.where(row.allowed, jnp.linalg.norm(every_k, axis=-1), 0), axis=-1)
    sizes = (jnp.linalg.norm(q, axis=-1) + root[..., 0]) * (largest + root[..., 0])
    return ACTIVATION_ERROR * fineness(q.dtype) * attn_scale * sizes


def turning_error(turn: Array, members: Array) -> Float[Array, "*firing"]:
    """`e = 5e-5 + max_{k∈S} eps σ_0 / gap_k`, 1 where vectors may take any place in their span."""
    by = jnp.where(turn < 1, turn / TURNING, 1)
    return ACTIVATION_ERROR * fineness(turn.dtype) + jnp.max(jnp.where(members, by, 0), axis=-1)


def _destination(
    given: tuple[Firings, Any, Array | None],
    rule: Rule,
    head: Int[Array, " block"],
    filled: Bool[Array, "block slot"],
    reader: Reader,
    cores: Array,
    b_O: Array,
    present: Bool[Array, " writer"],
    all_writers: bool,
) -> SideFound:
    """The destination's side, block by block."""

    def read_by(head: Array) -> HeadReader:
        return one_reader(reader, cores, SIDES.index("dest"), head)

    def weigh(own: HeadReader, part: Any) -> SideFound:
        (firings, written, keys_in), threshold = part
        terms = writer_terms(written, own, b_O, method="exact", all_writers=all_writers)
        inside = (firings.coefficient != 0).astype(terms.dtype)
        # A row's range is at most the sum of its vectors' ranges.
        amount = inside * (firings.row.spread * firings.error[..., None] + firings.moved[..., None] * firings.row.range)
        weight = _of_present(jnp.sum(terms * firings.coefficient[:, None], axis=-1), present)
        each = jnp.sum(jnp.abs(terms) * amount[:, None], axis=-1)
        bound = jnp.max(jnp.where(present[:, None], each, 0), axis=-2)
        if keys_in is None:
            return SideFound(weight, cover(weight, bound, rule.coverage), None)
        row = firings.row
        rows = jnp.where(present[:, None], einsum("gwfk,gftk->gfwt", terms, keys_in), 0)
        after = after_rows(row.scores, rows, falling(weight), row.src, row.allowed)
        return SideFound(weight, take_until(weight, after, firings.pattern, threshold, bound), None)

    plain = Plain(weigh)
    return plain.whole(head_by_head(read_by, plain, (given, rule.threshold), head, jnp.any(filled, axis=-1)))


def _of_present(weight: Float[Array, "*block writer slot"], present: Bool[Array, " writer"]) -> Array:
    return jnp.where(present, jnp.swapaxes(weight, -1, -2), -jnp.inf)


def _asked(
    coefficient: Float[Array, "block slot sv"],
    head: Int[Array, " block"],
    filled: Bool[Array, "block slot"],
    reader: Reader,
    cores: Array,
    all_writers: bool,
) -> tuple[Array, Array | None]:
    """What firings ask of what was written at the keys: of each head's z, [block slot layer writer_head d_head], and
    of what else stands in the residual, [block slot d_model].
    """

    def read_by(head: Array) -> HeadReader:
        return one_reader(reader, cores, SIDES.index("src"), head)

    def ask(own: HeadReader, coefficient: Array) -> tuple[Array, Array | None]:
        of_heads = einsum("gfk,gmahk->gfmah", coefficient, own.cores)
        return of_heads, einsum("gfk,gdk->gfd", coefficient, own.weights) if all_writers else None

    return head_by_head(read_by, ask, coefficient, head, jnp.any(filled, axis=-1))


def _keys_read(
    observed: Observed,
    prompt: Int[Array, ""],
    asked: tuple[Float[Array, "member layer writer_head d_head"], Float[Array, "member d_model"] | None],
    *,
    reader: Reader,
    b_O: Float[Array, "all_layers d_model"],
    layer: Int[Array, ""],
    n_layers: int,
) -> tuple[Float[Array, "member writer tok"], Float[Array, "writer tok"]]:
    """ρ_w[t] of a prompt's firings and every writer but the constant, and ‖x_w(t)‖, which bounds are made of."""
    of_heads, rest = asked

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
        biases = b_O[:n_layers].astype(rest.dtype)

        def norms(values: Array) -> Array:
            return jnp.linalg.norm(reader.gain * centre(values), axis=-1)

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
    asked = jnp.linalg.norm(jnp.where(firings.coefficient != 0, firings.root * firings.coefficient, 0), axis=-1)
    read = einsum("ft,wt->fw", jnp.abs(row.weights), jnp.where(there, sizes, 0))
    moved = firings.moved * jnp.max(rows_range(beyond, row.allowed), axis=-1)
    bound = asked * jnp.max(read, axis=-1) * firings.error + moved
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
