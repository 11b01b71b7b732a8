"""One layer's firings by relative attention (METHOD.md, section 14): what `svdtrace.tracing.attribute` does for the
other methods, with a row of path weights a firing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.contributions import Reader
from svdtrace.method.relative import Row, pattern_at, quadrature_error, row_of
from svdtrace.method.relative_bounds import products_bounds, score_bound, turning_error
from svdtrace.method.slices import Slices, choose_slices
from svdtrace.tracing.attribute import Blocks, present_writers
from svdtrace.tracing.loops import in_turn
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.relative_sides import (
    Firings,
    Groups,
    Heads,
    Rule,
    SideFound,
    destination,
    keys_of,
    source,
)
from svdtrace.tracing.relative_ties import bounded

KEYS_AT_ONCE = 2**12
"""So many keys of firings are read at once, but at least a block's: an array of 1 MiB where d_head is 64."""


LEAST_BLOCKS, MOST_BLOCKS = 8, 32
"""Of a call; what it holds of the firings must fit what the allocator keeps at hand, since fresh memory costs as much
as the arithmetic.
"""


def blocks_per_call(keys: str) -> int:
    """How many blocks a call has: many, so that a prompt's firings come together; few where every key of every writer
    is a candidate.
    """
    return LEAST_BLOCKS if keys == "all" else MOST_BLOCKS


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
class Sliced:
    """Firings' queries q̂, rows, P_k, slices (nothing in empty slots), and the bounds' factors of METHOD.md,
    section 14.4: `root` √σ_k, `error` e, `moved` δ/4.
    """

    q: Float[Array, "block slot sv"]
    row: Row
    products: Float[Array, "block slot sv"]
    slices: Slices
    root: Float[Array, "block slot sv"]
    error: Float[Array, "block slot"]
    moved: Float[Array, "block slot"]


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
    dest, head = jnp.asarray(blocks.dest), jnp.asarray(blocks.head)
    found = _sliced(observed, blocks, filled, layer, reader, attn_scale, tau)
    row, members = found.row, found.slices.members
    pattern = pattern_at(row.scores, row.src, row.allowed)
    coefficients = {"dest": jnp.where(members, row.kappa, 0), "src": jnp.where(members, attn_scale * found.q, 0)}
    rule, present = (
        Rule(coverage, thresholds[dest], select, keys),
        present_writers(n_layers, cores.shape[3], layer, all_writers),
    )
    heads = Heads(reader, cores, head, filled, b_O, layer, present, n_layers, all_writers)
    traced = []
    for side in sides:
        firings = Firings(row, dest, pattern, members, coefficients[side], found.root, found.error, found.moved)
        if side == "dest":
            traced.append(destination(observed, blocks, heads, firings, rule, attn_scale))
        else:
            roughly = source(observed, groups, heads, firings, rule)
            traced.append(bounded(roughly, observed, jnp.asarray(blocks.prompt), heads, firings))
    return RelativeFound(
        slices=found.slices,
        products=found.products,
        quadrature=quadrature_error(jnp.sum(found.products, axis=-1), pattern, row.allowed),
        weights=row.weights,
        coefficients=tuple(coefficients[side] for side in sides),
        sides=tuple(traced),
    )


def _sliced(
    observed: Observed,
    blocks: Blocks,
    filled: Bool[Array, "block slot"],
    layer: Int[Array, ""],
    reader: Reader,
    attn_scale: Float[Array, ""],
    tau: Float[Array, ""],
) -> Sliced:
    prompt, dest, src, head = (jnp.asarray(each) for each in (blocks.prompt, blocks.dest, blocks.src, blocks.head))
    q = observed.q.at[layer, prompt, dest, head[:, None]].get(mode="promise_in_bounds")
    scale = reader.scale
    root, turn, nearness = (
        jnp.broadcast_to(each[head][:, None], q.shape) for each in (scale.root, scale.turn, scale.nearness)
    )

    def read(block: tuple[Array, ...]) -> tuple[Row, Array]:
        prompt, dest, src, head, q, root = block
        keys = keys_of(observed, layer, prompt, head[:, None])
        row = row_of(q, keys, dest, src, attn_scale)
        return row, score_bound(q, keys, row, root, attn_scale) / 4

    n_keys = q.shape[1] * observed.scale.shape[-1]
    row, moved = in_turn(read, (prompt, dest, src, head, q, root), KEYS_AT_ONCE // n_keys, filled)
    products = q * row.kappa
    slices = choose_slices(products, products_bounds(q, row, root, turn), tau)
    slices = replace(slices, members=slices.members & filled[..., None])
    return Sliced(q, row, products, slices, root, turning_error(nearness, slices.members), moved)
