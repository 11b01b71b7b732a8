"""Which tokens' values an edge's writer passed on: what edges go through (METHOD.md, section 14.5).

A head writes `Σ_b A[t, b] v_b W_O`; its pattern sums to 1, so that an edge's value splits over what it attended to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum
from svdtrace.method.edges import covering
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import Ragged, Rows, WriterOrder

KEYS_PER_CALL = 2**14
"""How many keys the edges of a call attend to, at most: their values are gathered."""


@struct.dataclass
class Attending:
    """Edges of one reading layer from heads: where the writer stands, what its reader weighs S with on the edge's side
    (0 dest, 1 src), M at the token, and what the writer did there, c_{w,t}.
    """

    prompt: Int[np.ndarray | Array, " edge"]
    token: Int[np.ndarray | Array, " edge"]
    writer_layer: Int[np.ndarray | Array, " edge"]
    writer_head: Int[np.ndarray | Array, " edge"]
    head: Int[np.ndarray | Array, " edge"]
    side: Int[np.ndarray | Array, " edge"]
    coefficient: Float[np.ndarray | Array, "edge sv"]
    path: Float[np.ndarray | Array, " edge"]
    there: Float[np.ndarray | Array, " edge"]


def parts_read(
    observed: Observed,
    edges: Attending,
    layer: Int[Array, ""],
    cores: Float[Array, "side head layer writer_head d_head sv"],
    attn_scales: Float[Array, " all_layers"],
) -> tuple[Float[Array, "edge tok"], Float[Array, "edge tok"]]:
    """The writer's pattern A[t, b] over what it attended to, 0 beyond its token t, and what the reader's coefficients
    make of the value at each b, alone: together they are what they make of the writer.
    """
    reads = cores[edges.side, edges.head, edges.writer_layer, edges.writer_head]
    direction = einsum("ek,ehk->eh", edges.coefficient, reads)
    scale = observed.scale[layer, edges.prompt, edges.token]

    def keys(values: Array) -> Array:
        return values[edges.writer_layer, edges.prompt, :, edges.writer_head]

    assert observed.v is not None
    query = observed.q[edges.writer_layer, edges.prompt, edges.token, edges.writer_head]
    score = attn_scales[edges.writer_layer][:, None] * einsum("eh,eth->et", query, keys(observed.k))
    pattern = jax.nn.softmax(jnp.where(_before(edges, score), score, -jnp.inf), axis=-1)
    return pattern, einsum("eth,eh->et", keys(observed.v), direction) / scale[:, None]


def _before(edges: Attending, of_tokens: Float[Array, "edge tok"]) -> Bool[Array, "edge tok"]:
    return jnp.arange(of_tokens.shape[-1], dtype=edges.token.dtype) <= edges.token[:, None]


@jax.jit
def attended(
    observed: Observed,
    edges: Attending,
    layer: Int[Array, ""],
    cores: Float[Array, "side head layer writer_head d_head sv"],
    attn_scales: Float[Array, " all_layers"],
    coverage: Float[Array, ""],
) -> Bool[Array, "edge tok"]:
    """The tokens that make up most of each edge, by section 6's rule; none where none has a positive part."""
    pattern, read = parts_read(observed, edges, layer, cores, attn_scales)
    beyond = read - jnp.sum(pattern * read, axis=-1, keepdims=True)
    # What was read at the token, less the row's mean, times M, is what the writer did there.
    source = pattern * (edges.path[:, None] * beyond + edges.there[:, None])
    parts = jnp.where(edges.side[:, None] == 0, pattern * read, source)
    parts = jnp.where(_before(edges, parts), parts, -jnp.inf)
    return covering(parts, coverage) & jnp.any(parts > 0, axis=-1, keepdims=True)


def with_through(prepared: Prepared, observed: Observed, rows: Rows, order: WriterOrder, coverage: float) -> Rows:
    """The same rows, edges from heads with the tokens that they go through."""
    edges = rows.edges
    if edges.relative is None:
        return rows
    n_tokens = observed.scale.shape[-1]
    chosen = np.zeros((0, 2), np.int64)
    for layer, mine, padded in edges_by_layer(rows, order, max(1, KEYS_PER_CALL // n_tokens)):
        given = attending(rows, order, padded)
        found = attended(
            observed,
            given,
            np.int32(layer),
            prepared.cores(layer),
            prepared.score_scale,
            np.asarray(coverage, prepared.dtype),
        )
        at, token = np.nonzero(np.asarray(found)[: len(mine)])
        chosen = np.concatenate([chosen, np.stack([mine[at], token], -1)])
    chosen = chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]
    offset = np.searchsorted(chosen[:, 0], np.arange(len(edges.firing) + 1))
    through = Ragged(offset, chosen[:, 1].astype(np.int32))
    return replace(rows, edges=replace(edges, relative=replace(edges.relative, through=through)))


def edges_by_layer(rows: Rows, order: WriterOrder, size: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Edges from heads by their reader's layer, so many at a time; and the last one repeated until a call is full."""
    edges = rows.edges
    from_head = order.head[edges.writer] >= 0
    layer = rows.firings.layer[edges.firing]
    for each in np.unique(layer):
        mine = np.flatnonzero(from_head & (layer == each))
        for start in range(0, len(mine), size):
            part = mine[start : start + size]
            # Of one size, so that one program is compiled.
            yield int(each), part, np.concatenate([part, np.repeat(part[-1:], size - len(part))])


def attending(rows: Rows, order: WriterOrder, mine: np.ndarray) -> Attending:
    """Some edges, as `attended` takes them."""
    edges, relative = rows.edges, rows.edges.relative
    assert relative is not None
    firing, writer = edges.firing[mine], edges.writer[mine]
    places = (rows.firings.prompt[firing], edges.token[mine], order.layer[writer], order.head[writer])
    return Attending(
        *(np.asarray(each, np.int32) for each in (*places, rows.firings.head[firing], edges.side[mine])),
        coefficient=relative.coefficient[mine],
        path=relative.path[mine],
        there=relative.there[mine],
    )
