"""One layer's firings, from their products to their edges: slices, contributions and edges in one compiled program.

Firings stand in blocks that share a reader head, so that every product is dense.
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

from svdtrace.bounds import product_bounds
from svdtrace.contributions import Contributions, Reader, Written, coefficients, contribute, head_terms, other_terms
from svdtrace.edges import Edges, choose_edges
from svdtrace.observe import Observed
from svdtrace.slices import Slices, choose_slices, whole_rank

BLOCK_SIZE = 16
BLOCKS_PER_CALL = 16
SIDES = ("dest", "src")


@struct.dataclass
class Blocks:
    """Firings of one layer in blocks that share a head: where each stands."""

    prompt: Int[np.ndarray | Array, "block slot"]
    dest: Int[np.ndarray | Array, "block slot"]
    src: Int[np.ndarray | Array, "block slot"]
    head: Int[np.ndarray | Array, " block"]


@struct.dataclass
class Attributed:
    """Slices and products of firings, [block slot sv]; contributions and edges, [side block slot writer]."""

    slices: Slices
    products: Float[Array, "block slot sv"]
    weight: Float[Array, "side block slot writer"]
    edges: Edges


@struct.dataclass
class Collected:
    """What `attribute` needs of the forward pass: the firings' own q̂ and k̂, and what was written, side by side."""

    q: Float[Array, "block slot sv"]
    k: Float[Array, "block slot sv"]
    written: tuple[Written, ...]


def in_blocks(rows: np.ndarray, head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Arrange rows of one layer in blocks of one head each, whole calls of them.

    Args:
        rows: the firings' rows; head: their heads.

    Returns:
        Rows [call block slot], -1 in empty slots, and heads [call block].
    """
    order = np.argsort(head, kind="stable")
    rows, head = rows[order], head[order]
    heads, start, count = np.unique(head, return_index=True, return_counts=True)
    blocks_of = -(-count // BLOCK_SIZE)
    first_block = np.concatenate([[0], np.cumsum(blocks_of)])
    total = -(-first_block[-1] // BLOCKS_PER_CALL) * BLOCKS_PER_CALL
    slots = np.full(total * BLOCK_SIZE, -1, np.int32)
    which = np.searchsorted(heads, head)
    slots[first_block[which] * BLOCK_SIZE + np.arange(len(rows)) - start[which]] = rows
    block_heads = np.zeros(total, np.int32)
    block_heads[: first_block[-1]] = np.repeat(heads, blocks_of)
    return slots.reshape(-1, BLOCKS_PER_CALL, BLOCK_SIZE), block_heads.reshape(-1, BLOCKS_PER_CALL)


@partial(jax.jit, static_argnames=("n_layers", "sides"))
def collect(
    observed: Observed,
    blocks: Blocks,
    layer: Int[Array, ""],
    *,
    n_layers: int,
    sides: tuple[str, ...],
) -> Collected:
    """Gather what firings of one layer need, so that `attribute` compiles for no particular batch shape.

    Args:
        n_layers: writers of so many layers are gathered; those from `layer` on are masked later.
    """
    head = blocks.head[:, None]
    n_prompts, n_tokens = observed.scale.shape[1:]

    # All indices are in bounds, and are said to be: checking them would double the time of every gather.
    def at(values: Array, *index: Any) -> Array:
        return values.at[index].get(mode="promise_in_bounds")

    def by_place(values: Array) -> Array:
        return values.reshape(values.shape[0], n_prompts * n_tokens, *values.shape[3:])

    def one_side(side: str) -> Written:
        place = blocks.prompt * n_tokens + (blocks.dest if side == "dest" else blocks.src)
        others = None
        if observed.mlp_out is not None and observed.embed is not None and observed.pos is not None:
            stem = jnp.stack([observed.embed, observed.pos])
            parts = (by_place(observed.mlp_out)[:n_layers, place], by_place(stem)[:, place])
            others = jnp.moveaxis(jnp.concatenate(parts), 0, 1)
        writer_layer = jnp.arange(n_layers)[:, None, None]
        writer_head = jnp.arange(observed.z.shape[3])[:, None]
        z = at(by_place(observed.z), writer_layer, place[:, None, None], writer_head)
        return Written(z=z, scale=by_place(observed.scale)[layer, place], others=others)

    return Collected(
        q=at(observed.q, layer, blocks.prompt, blocks.dest, head),
        k=at(observed.k, layer, blocks.prompt, blocks.src, head),
        written=tuple(one_side(side) for side in sides),
    )


@partial(jax.jit, static_argnames=("method", "sides", "all_writers", "at_once"))
def attribute(
    collected: Collected,
    filled: Bool[Array, "block slot"],
    head: Int[Array, " block"],
    layer: Int[Array, ""],
    reader: Reader,
    cores: Float[Array, "side head layer writer_head d_head sv"],
    b_O: Float[Array, "all_layers d_model"],
    tau: Float[Array, ""],
    coverage: Float[Array, ""],
    *,
    method: str,
    sides: tuple[str, ...],
    all_writers: bool,
    at_once: int,
) -> Attributed:
    """Slices, contributions and edges of firings of one layer.

    Args:
        filled: which slots hold a firing.
        layer: the readers'; the writers gathered may belong to more layers than lie below it.
        cores: with the heads of the layers gathered.
        sides: those to compute; their order is the leading axis of what comes back.
        all_writers: whether MLPs, embeddings, biases and the constant are writers too (`exact` alone).
        at_once: how many blocks' cores are gathered at a time, see `svdtrace.batching.blocks_at_once`.
    """
    q, k = collected.q, collected.k
    slices, products, relative = sliced(q, k, head, reader, tau, method)
    members = slices.members & filled[..., None]
    coefficient = coefficients(method, q, k, members)
    present = present_writers(cores.shape[2], cores.shape[3], layer, all_writers)

    def weigh(part: tuple[Array, Array, Array, tuple[Written, ...]]) -> list[tuple[Array, Array]]:
        head, coefficient, relative, written = part
        both = []
        for side, each in zip(sides, written, strict=True):
            z = SIDES.index(side)
            terms = writer_terms(each, z, head, reader, cores, b_O, method=method, all_writers=all_writers)
            found = contribute(terms, coefficient[:, z], relative, present)
            both.append((found.weight, found.bound))
        return both

    parts = (head, jnp.swapaxes(coefficient, 0, 1), relative, collected.written)
    each = block_by_block(weigh, parts, jnp.any(filled, axis=-1), at_once)
    weight, bound = (jnp.stack(of_sides) for of_sides in zip(*each, strict=True))
    edges = choose_edges(Contributions(weight, bound), coverage)
    return Attributed(
        slices=replace(slices, members=members),
        products=products,
        weight=weight,
        edges=replace(edges, chosen=edges.chosen & filled[..., None]),
    )


def block_by_block(work: Callable[[Any], Any], blocks: Any, filled: Bool[Array, " block"], at_once: int) -> Any:
    """Work on blocks, `at_once` of them at a time, up to the last one that is filled; zeros beyond it.

    A loop, so that what one block needs much room for (its heads' cores, the terms of every writer and vector) stays in
    the cache; what is empty costs nothing.

    Args:
        work: from arrays [at_once …] to arrays [at_once …].
        blocks: arrays [block …], the number of blocks a multiple of `at_once`.
    """

    def cut(start: Array) -> Any:
        return jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, start, at_once), blocks)

    def step(index: Array, found: Any) -> Any:
        start = index * at_once
        part = work(cut(start))
        return jax.tree.map(
            lambda whole, each: jax.lax.dynamic_update_slice_in_dim(whole, each, start, axis=0), found, part
        )

    shapes = jax.eval_shape(lambda: work(cut(jnp.int32(0))))
    empty = jax.tree.map(lambda each: jnp.zeros((len(filled), *each.shape[1:]), each.dtype), shapes)
    last = jnp.max(jnp.where(filled, jnp.arange(len(filled)), -1))
    return jax.lax.fori_loop(0, last // at_once + 1, step, empty)


def writer_terms(
    written: Written,
    side: int,
    head: Int[Array, " block"],
    reader: Reader,
    cores: Float[Array, "side head layer writer_head d_head sv"],
    b_O: Float[Array, "all_layers d_model"],
    *,
    method: str,
    all_writers: bool,
) -> Float[Array, "block writer slot sv"]:
    """What every writer gathered put along the reader's vectors, before the method's coefficients weigh it.

    Args:
        side: 0 destination, 1 source.
    """
    bias = reader.bias[side, head]
    terms = head_terms(written, cores[side, head], bias, 0.0 if method == "exact" else 1.0)
    if not all_writers:
        return terms
    rest = other_terms(written, b_O[: cores.shape[2]], reader.weights[side, head], bias, reader.shift[side, head])
    return jnp.concatenate([terms, rest], axis=1)


def present_writers(n_layers: int, n_heads: int, layer: Int[Array, ""], all_writers: bool) -> Bool[Array, " writer"]:
    """Which of the writers gathered lie below the reader's layer."""
    below = jnp.arange(n_layers) < layer
    if not all_writers:
        return jnp.repeat(below, n_heads)
    return jnp.concatenate([jnp.repeat(below, n_heads), below, below, jnp.ones(3, bool)])


def sliced(
    q: Float[Array, "block slot sv"],
    k: Float[Array, "block slot sv"],
    head: Int[Array, " block"],
    reader: Reader,
    tau: Float[Array, ""],
    method: str,
) -> tuple[Slices, Float[Array, "block slot sv"], Float[Array, "block slot sv"]]:
    """Slices by the method's rule, the products they choose from, and their relative rounding bounds."""
    products = q * k
    relative = jnp.broadcast_to(reader.scale.relative[head][:, None], q.shape)
    if method == "all":
        return whole_rank(products, jnp.broadcast_to(reader.rank[head][:, None], q.shape)), products, relative
    root = jnp.broadcast_to(reader.scale.root[head][:, None], q.shape[:-1])
    bounds = product_bounds(q, k, root, relative)
    return choose_slices(products, bounds, tau), products, relative
