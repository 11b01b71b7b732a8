"""One layer's firings, from their products to their edges: slices, contributions and edges in one compiled program.

Firings stand in blocks that share a reader head, so that every product is dense.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.bounds import Read, product_bounds
from svdtrace.method.contributions import (
    Reader,
    Written,
    coefficients,
    contribute_bounded,
    head_sizes,
    head_terms,
    other_sizes,
    other_terms,
)
from svdtrace.method.edges import Edges, choose_edges
from svdtrace.method.slices import Slices, choose_slices, whole_rank
from svdtrace.tracing.loops import head_by_head
from svdtrace.tracing.observe import Observed

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
    """Slices and products of firings, [block slot sv]; contributions and edges, [side block slot writer]; `bound`, how
    far rounding may carry each of a firing's contributions.
    """

    slices: Slices
    products: Float[Array, "block slot sv"]
    weight: Float[Array, "side block slot writer"]
    bound: Float[Array, "side block slot"]
    edges: Edges


@struct.dataclass
class Collected:
    """What `attribute` needs of the forward pass: the firings' own q̂ and k̂, ‖x̃‖ of the destination and the source
    (where bounds are asked for), and what was written, side by side.
    """

    q: Float[Array, "block slot sv"]
    k: Float[Array, "block slot sv"]
    read: tuple[Float[Array, "block slot"], ...]
    written: tuple[Written, ...]


def in_blocks(
    rows: np.ndarray, head: np.ndarray, size: int = BLOCK_SIZE, n_blocks: int = BLOCKS_PER_CALL
) -> tuple[np.ndarray, np.ndarray]:
    """Arrange rows of one layer in blocks of one head each, whole calls of them.

    Args:
        rows: the firings' rows; head: their heads.
        size: slots of a block; n_blocks: of a call.

    Returns:
        Rows [call block slot], -1 in empty slots, and heads [call block].
    """
    order = np.argsort(head, kind="stable")
    rows, head = rows[order], head[order]
    heads, start, count = np.unique(head, return_index=True, return_counts=True)
    blocks_of = -(-count // size)
    first_block = np.concatenate([[0], np.cumsum(blocks_of)])
    total = -(-first_block[-1] // n_blocks) * n_blocks
    slots = np.full(total * size, -1, np.int32)
    which = np.searchsorted(heads, head)
    slots[first_block[which] * size + np.arange(len(rows)) - start[which]] = rows
    block_heads = np.zeros(total, np.int32)
    block_heads[: first_block[-1]] = np.repeat(heads, blocks_of)
    return slots.reshape(-1, n_blocks, size), block_heads.reshape(-1, n_blocks)


def prompts_together(rows: np.ndarray, prompt: np.ndarray, slots: int) -> list[np.ndarray]:
    """Rows of one layer in parts of a call each, those of a prompt in one.

    Args:
        rows: the firings' rows; prompt: their prompts.
        slots: of a call; a quarter of them is left to blocks that are not full.
    """
    parts = -(-len(rows) // max(1, slots * 3 // 4))
    return np.array_split(rows[np.argsort(prompt, kind="stable")], parts) if parts else []


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
    n_heads = observed.z.shape[3]
    writer_layer, writer_head = jnp.arange(n_layers)[:, None, None], jnp.arange(n_heads)[:, None]

    # All indices are in bounds, and are said to be: checking them would double the time of every gather.
    def at(values: Array, *index: Any) -> Array:
        return values.at[index].get(mode="promise_in_bounds")

    def by_place(values: Array) -> Array:
        return values.reshape(values.shape[0], n_prompts * n_tokens, *values.shape[3:])

    def one_side(side: str) -> Written:
        place = blocks.prompt * n_tokens + (blocks.dest if side == "dest" else blocks.src)
        others = None
        if observed.mlp_out is not None and observed.embed is not None and observed.pos is not None:
            # Looked up apart: put together first, those of all places would be copied.
            stem = [values.reshape(n_prompts * n_tokens, -1)[None, place] for values in (observed.embed, observed.pos)]
            others = jnp.moveaxis(jnp.concatenate([by_place(observed.mlp_out)[:n_layers, place], *stem]), 0, 1)
        z = at(by_place(observed.z), writer_layer, place[:, None, None], writer_head)
        return Written(z=z, norm=norm_at(place), scale=by_place(observed.scale)[layer, place], others=others)

    def norm_at(place: np.ndarray | Array) -> Array | None:
        if observed.written is None:
            return None
        n_gains, _, _, *writers = observed.written.shape
        # Of the reading layer's γ; folded models have one for all.
        gain = jnp.minimum(layer, n_gains - 1)
        # A place's writers lie together, so that one index takes them all.
        norm = at(observed.written.reshape(n_gains, n_prompts * n_tokens, *writers), gain, place)
        return jnp.moveaxis(norm[:, :, :n_layers], 1, -1)

    read = observed.read
    return Collected(
        q=at(observed.q, layer, blocks.prompt, blocks.dest, head),
        k=at(observed.k, layer, blocks.prompt, blocks.src, head),
        read=() if read is None else tuple(at(read, layer, blocks.prompt, end) for end in (blocks.dest, blocks.src)),
        written=tuple(one_side(side) for side in sides),
    )


@partial(jax.jit, static_argnames=("method", "sides", "all_writers"))
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
) -> Attributed:
    """Slices, contributions and edges of firings of one layer.

    Args:
        filled: which slots hold a firing.
        layer: the readers'; the writers gathered may belong to more layers than lie below it.
        cores: with the heads of the layers gathered.
        sides: those to compute; their order is the leading axis of what comes back.
        all_writers: whether MLPs, embeddings, biases and the constant are writers too (`exact` alone).
    """
    slices, products = sliced(collected.q, collected.k, head, reader, tau, method)
    members = slices.members & filled[..., None]
    reads = reads_of(collected, members, reader, head, method, sides)
    present = present_writers(cores.shape[2], cores.shape[3], layer, all_writers)

    def read_by(head: Array) -> list[HeadReader]:
        return [one_reader(reader, cores, SIDES.index(side), head) for side in sides]

    def weigh(readers: list[HeadReader], part: tuple[tuple[Read, ...], tuple[Written, ...]]) -> list[tuple[Array, ...]]:
        both = []
        for own, read, written in zip(readers, *part, strict=True):
            terms = writer_terms(written, own, b_O, method=method, all_writers=all_writers)
            sizes = writer_sizes(written, reader, b_O[: cores.shape[2]], method=method, all_writers=all_writers)
            both.append(contribute_bounded(terms, sizes, read, present))
        return both

    each = head_by_head(read_by, weigh, (reads, collected.written), head, jnp.any(filled, axis=-1))
    weight, bound = (jnp.stack(of_sides) for of_sides in zip(*each, strict=True))
    edges = choose_edges(weight, bound, coverage)
    return Attributed(
        slices=replace(slices, members=members),
        products=products,
        weight=weight,
        bound=bound,
        edges=replace(edges, chosen=edges.chosen & filled[None, ..., None]),
    )


@struct.dataclass
class HeadReader:
    """What blocks' heads read one side with: of a `Reader` and its cores, the block's own."""

    cores: Float[Array, "block layer writer_head d_head sv"]
    weights: Float[Array, "block d_model sv"]
    bias: Float[Array, "block sv"]
    shift: Float[Array, "block sv"]


def one_reader(reader: Reader, cores: Array, side: int, head: Int[Array, ""]) -> HeadReader:
    """The reader of one head, for a single block."""

    def own(array: Array) -> Array:
        # Numbers of one type, where float64 would make those written here longer.
        start = [jnp.asarray(each, head.dtype) for each in (side, head, *[0] * (array.ndim - 2))]
        return jax.lax.dynamic_slice(array, start, (1, 1, *array.shape[2:]))[0]

    return HeadReader(*(own(each) for each in (cores, reader.weights, reader.bias, reader.shift)))


def readers_of(reader: Reader, cores: Array, side: int, head: Int[Array, " block"]) -> HeadReader:
    """The readers of several blocks, gathered."""
    return HeadReader(*(each[side, head] for each in (cores, reader.weights, reader.bias, reader.shift)))


def reads_of(
    collected: Collected,
    members: Bool[Array, "block slot sv"],
    reader: Reader,
    head: Int[Array, " block"],
    method: str,
    sides: tuple[str, ...],
) -> tuple[Read, ...]:
    """What firings read each side with, and how far that is rounded."""
    both = coefficients(method, collected.q, collected.k, members)
    root, turn = reader.scale.root[head], reader.scale.turn[head]
    nothing = jnp.zeros(collected.q.shape[:-1], collected.q.dtype)

    def one_side(side: str) -> Read:
        place = SIDES.index(side)
        size, other_read = nothing, nothing
        if method == "exact":
            size = jnp.linalg.norm((collected.k, collected.q)[place], axis=-1)
            other_read = collected.read[1 - place]
        return Read(both[place], root, turn, other_read=other_read, other_size=size)

    return tuple(one_side(side) for side in sides)


def writer_terms(
    written: Written, read: HeadReader, b_O: Float[Array, "all_layers d_model"], *, method: str, all_writers: bool
) -> Float[Array, "block writer slot sv"]:
    """What every writer gathered put along the reader's vectors, before the method's coefficients weigh it."""
    terms = head_terms(written, read.cores, read.bias, 0.0 if method == "exact" else 1.0)
    if not all_writers:
        return terms
    rest = other_terms(written, b_O[: read.cores.shape[1]], read.weights, read.bias, read.shift)
    return jnp.concatenate([terms, rest], axis=1)


def writer_sizes(
    written: Written, reader: Reader, b_O: Float[Array, "layer d_model"], *, method: str, all_writers: bool
) -> Float[Array, "block writer slot"]:
    """‖x_w‖ of every writer gathered, with the 1 that the method appends."""
    sizes = head_sizes(written, 0.0 if method == "exact" else 1.0)
    if not all_writers:
        return sizes
    return jnp.concatenate([sizes, other_sizes(written, b_O, reader.gain, reader.offset)], axis=1)


def present_writers(n_layers: int, n_heads: int, layer: Int[Array, ""], all_writers: bool) -> Bool[Array, " writer"]:
    """Which of the writers gathered lie below the reader's layer."""
    below = jnp.arange(n_layers, dtype=layer.dtype) < layer
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
) -> tuple[Slices, Float[Array, "block slot sv"]]:
    """Slices by the method's rule, and the products they choose from."""
    products = q * k
    root, turn = (jnp.broadcast_to(each[head][:, None], q.shape) for each in (reader.scale.root, reader.scale.turn))
    if method == "all":
        return whole_rank(products, root > 0), products
    return choose_slices(products, product_bounds(q, k, root, turn), tau), products
