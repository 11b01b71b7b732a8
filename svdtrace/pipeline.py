"""From a batch of prompts to its rows: the stages of METHOD.md, sections 2 to 7, one after another.

1 `observe`: forward pass in the singular gauge, firings found in each layer
2 `attribute`: slices, contributions and edges, a layer's firings in blocks of one head
3 `rows`, `paths`, `roots`: back into one order, ways from the roots counted, what no root reaches left out
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Int

from gpt2jax.numerics import einsum
from gpt2jax.params import Params
from gpt2jax.residual import unembedding
from svdtrace import tables
from svdtrace.attribute import Blocks, attribute, collect
from svdtrace.batching import Batch
from svdtrace.config import TraceConfig
from svdtrace.firings import FiringList, candidates_per_destination, list_firings
from svdtrace.observe import Observed, observe
from svdtrace.paths import count_paths, saturated
from svdtrace.prepare import Prepared, writer_layers
from svdtrace.roots import ALL, LOGIT, Root, logit_heads, named_roots
from svdtrace.rows import SIDES, Chunk, Rows, WriterOrder, gather_rows
from svdtrace.sharding import by_prompt, collect_by_device, in_blocks_by_device

Keep = Callable[[Batch, Rows], np.ndarray]
"""Which of a batch's edges stay, as a mask of its edge rows; an edge dropped leads nowhere."""


@dataclass(frozen=True)
class BatchCounts:
    """What the manifest says of a batch; `firings_per_head` [layer head] counts all traced firings, reached or not."""

    firings_per_head: np.ndarray
    paths_saturated: int


@dataclass(frozen=True)
class BatchTrace:
    """A batch's rows and what belongs to them.

    `kept` marks the firings that some root reaches; `paths` counts the ways, int64; both [firing].
    """

    batch: Batch
    rows: Rows
    paths: np.ndarray
    kept: np.ndarray
    logit_difference: np.ndarray
    counts: BatchCounts


def watch(prepared: Prepared, batch: Batch, config: TraceConfig) -> Observed:
    """Stage 1; returns at once, the device computes on."""
    return observe(
        prepared.model.config,
        prepared.model.params,
        *(by_prompt(each, prepared.mesh) for each in (batch.tokens, batch.length, batch.last)),
        np.asarray(config.score_min, prepared.dtype),
        count=candidates_per_destination(config.threshold, batch.tokens.shape[1]),
        skip_first=config.skip_first,
        all_writers=all_writers(config),
    )


def follow(
    prepared: Prepared,
    batch: Batch,
    observed: Observed,
    config: TraceConfig,
    roots: Sequence[Root],
    keep: Keep | None = None,
) -> BatchTrace:
    """Stages 2 and 3."""
    model = prepared.model
    order = WriterOrder.of(model.config.n_layers, model.config.n_heads)
    firings = list_firings(observed.candidates, config.threshold)
    sides = sides_of(config)
    chunks = [
        chunk
        for layer in range(1, model.config.n_layers)
        for chunk in _attributed(prepared, observed, firings, layer, config, sides)
    ]
    rows = gather_rows(firings, chunks, order, sides)
    if keep is not None:
        rows = replace(rows, edges=rows.edges.take(np.flatnonzero(keep(batch, rows))))
    start = _root_firings(prepared, batch, observed, firings, config, roots)
    paths, n_saturated = saturated(count_paths(firings, rows.edges, start, order))
    per_head = np.zeros((model.config.n_layers, model.config.n_heads), np.int64)
    np.add.at(per_head, (firings.layer, firings.head), 1)
    real = len(batch.prompts)
    difference = logit_difference(model.params, observed.final_read, batch.answer, batch.distractor)
    return BatchTrace(
        batch=batch,
        rows=rows,
        paths=paths,
        kept=paths > 0,
        logit_difference=np.asarray(difference)[:real],
        counts=BatchCounts(firings_per_head=per_head, paths_saturated=n_saturated),
    )


def batch_tables(trace: BatchTrace, order: WriterOrder) -> tuple[pa.Table, pa.Table, pa.Table]:
    """A batch's prompts, firings and edges as tables of the contract."""
    batch = trace.batch
    return (
        tables.prompts_table(batch.prompts, trace.logit_difference, batch.place[: len(batch.prompts)]),
        tables.firings_table(trace.rows, trace.paths, trace.kept, batch.place),
        tables.edges_table(trace.rows, trace.paths, trace.kept, batch.place, order),
    )


@jax.jit
def logit_difference(
    params: Params,
    final_read: Float[Array, "prompt d_model"],
    answer: Int[Array, " prompt"],
    distractor: Int[Array, " prompt"],
) -> Float[Array, " prompt"]:
    """logit[answer] − logit[distractor] at the last traced token; NaN where a prompt lacks one of them (-1)."""
    W_U = unembedding(params)
    a, d = jnp.maximum(answer, 0), jnp.maximum(distractor, 0)
    direction = (W_U[:, a] - W_U[:, d]).astype(final_read.dtype)
    difference = einsum("bd,db->b", final_read, direction)
    if params.b_U is not None:
        difference = difference + (params.b_U[a] - params.b_U[d]).astype(difference.dtype)
    return jnp.where((answer >= 0) & (distractor >= 0), difference, jnp.nan)


def _attributed(
    prepared: Prepared, observed: Observed, firings: FiringList, layer: int, config: TraceConfig, sides: tuple[str, ...]
) -> list[Chunk]:
    """Stage 2 for one layer, dispatched call by call."""
    rows = np.nonzero(firings.layer == layer)[0]
    if not len(rows):
        return []
    n_layers = writer_layers(layer, prepared.model.config.n_layers)
    run = partial(
        attribute,
        layer=np.int32(layer),
        reader=prepared.readers[layer - 1],
        cores=prepared.cores(layer),
        b_O=prepared.model.params.blocks.b_O[:n_layers],
        tau=np.asarray(config.tau, prepared.dtype),
        coverage=np.asarray(config.coverage, prepared.dtype),
        method=config.method,
        sides=sides,
        all_writers=all_writers(config),
    )
    arranged = in_blocks_by_device(
        rows, firings.head[rows], firings.prompt[rows], observed.scale.shape[1], prepared.devices
    )
    chunks = []
    for row, head in zip(*arranged, strict=True):
        # An empty slot repeats row 0; what comes of it is masked.
        at = np.maximum(row, 0)
        blocks = Blocks(prompt=firings.prompt[at], dest=firings.dest[at], src=firings.src[at], head=head)
        gather = collect if prepared.mesh is None else partial(collect_by_device, mesh=prepared.mesh)
        collected = gather(observed, blocks, np.int32(layer), n_layers=n_layers, sides=sides)
        chunks.append(Chunk(row=row, writer_layers=n_layers, result=run(collected, filled=row >= 0, head=head)))
    return chunks


def _root_firings(
    prepared: Prepared,
    batch: Batch,
    observed: Observed,
    firings: FiringList,
    config: TraceConfig,
    roots: Sequence[Root],
) -> np.ndarray:
    """Mark the firings that tracing starts from, [firing]."""
    if config.roots == ALL:
        return np.ones(len(firings), bool)
    if config.roots != LOGIT:
        return named_roots(firings, roots, batch.prompts)
    heads = np.asarray(
        logit_heads(
            prepared.model.params,
            observed,
            batch.last,
            batch.answer,
            batch.distractor,
            np.asarray(config.coverage, prepared.dtype),
            n_heads=prepared.model.config.n_heads,
        )
    )
    return heads[firings.prompt, firings.layer, firings.head] & (firings.dest == batch.last[firings.prompt])


def all_writers(config: TraceConfig) -> bool:
    """In `paper` and `all` the writers are heads alone, whatever the setting says (METHOD.md, section 5)."""
    return config.writers == "all" and config.method == "exact"


def sides_of(config: TraceConfig) -> tuple[str, ...]:
    """The sides that a trace follows."""
    return SIDES if config.sides == "both" else (config.sides,)
