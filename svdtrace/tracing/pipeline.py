"""From a batch of prompts to its rows: the stages of METHOD.md, sections 2 to 7, one after another.

1 `watch`: forward pass in the singular gauge, candidates for firings found in each layer (`observe`)
2 `follow`: firings (`pairs`), slices, contributions and edges, a layer's firings in blocks of one head (`attribute`)
3 `finish`: back into one order, ways from the roots counted, what no root reaches left out (`rows`, `paths`, `roots`)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from jaxtyping import Array

from gpt2jax.tokenizer import Tokenizer
from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.method.firings import FiringList, candidates_kept, thresholds
from svdtrace.tracing import descending, tables
from svdtrace.tracing.attended import with_through
from svdtrace.tracing.attribute import (
    BLOCKS_PER_CALL,
    Attributed,
    Blocks,
    Collected,
    attribute,
    collect,
    prompts_together,
)
from svdtrace.tracing.batching import Batch, block_size
from svdtrace.tracing.devices import precision
from svdtrace.tracing.near_ties import UndecidedPairs
from svdtrace.tracing.observe import Observed, Room, new_room, observe
from svdtrace.tracing.output_roots import parse_targets, probability_roots, split_root_heads
from svdtrace.tracing.pairs import Fired, firings_of
from svdtrace.tracing.paths import count_paths, saturated
from svdtrace.tracing.prepare import Prepared, writer_layers
from svdtrace.tracing.relative import RelativeFound, attribute_relative, blocks_per_call
from svdtrace.tracing.relative_sides import in_groups
from svdtrace.tracing.roots import ALL, LOGIT, PROBABILITY, Root, RootHeads, logit_difference, named_roots, root_heads
from svdtrace.tracing.rows import SIDES, Chunk, Rows, WriterOrder, gather_rows
from svdtrace.tracing.sharding import attribute_by_device, by_prompt, collect_by_device, in_blocks_by_device

Keep = Callable[[Batch, Rows], np.ndarray]
"""Which of a batch's edges stay, as a mask of its edge rows; an edge dropped leads nowhere."""


@dataclass(frozen=True)
class BatchCounts:
    """What the manifest says of a batch; `firings_per_head` [layer head] counts all traced firings, reached or not,
    `of_layer_0` those of layer 0, which are never traced, `undecided` are all pairs that rounding may make fire or not,
    `not_finite` the places in the input of prompts whose activations are not finite.
    """

    firings_per_head: np.ndarray
    of_layer_0: int
    paths_saturated: int
    undecided: UndecidedPairs
    not_finite: np.ndarray


@dataclass(frozen=True)
class BatchTrace:
    """A batch's rows and what belongs to them.

    `kept` marks the firings that some root reaches; `paths` counts the ways, int64; both [firing]. `finite` [prompt]
    marks the prompts that have rows, `logit_difference` is NaN where a prompt lacks answer or distractor. `root_heads`
    are there for roots from the output alone.
    """

    batch: Batch
    rows: Rows
    paths: np.ndarray
    kept: np.ndarray
    finite: np.ndarray
    logit_difference: np.ndarray
    root_heads: RootHeads | None
    counts: BatchCounts


def watch(prepared: Prepared, batch: Batch, config: TraceConfig, before: Observed | None = None) -> Observed:
    """Stage 1; returns at once, the device computes on.

    Args:
        before: an earlier batch's, needed no more: if it has this one's shape, its memory is taken over.
    """
    if before is not None and before.scale.shape[1:] == batch.tokens.shape:
        room = Room.of(before)
    else:
        # Made here, so that the first batch of a shape is compiled as the later ones; over several devices XLA decides
        # how it lies.
        shape, writers, n_gains = batch.tokens.shape, keeps_all(config), prepared.grams.shape[1]
        kept = writers, n_gains, keeps_values(config), keeps_keys(config)
        new = partial(new_room, prepared.model.config, prepared.dtype, shape, *kept)
        room = new() if prepared.mesh is None else None
    return observe(
        prepared.model.config,
        prepared.model.params,
        *(by_prompt(each, prepared.mesh) for each in (batch.tokens, batch.length, batch.last)),
        room=room,
        grams=prepared.grams,
        count=candidates_kept(config, batch.tokens.shape[1]),
        skip_first=config.skip_first,
        all_writers=keeps_all(config),
        values=keeps_values(config),
        keys=keeps_keys(config),
    )


@dataclass(frozen=True)
class Following:
    """A batch whose firings are being attributed: all calls are dispatched, their results still to come.

    `firings` are those read; `rows` are made already where edges are followed through what their writers attended,
    which the forward pass knows, and where few firings of many are read; `root_heads` are there for roots from the
    output alone.
    """

    batch: Batch
    fired: Fired
    firings: FiringList
    chunks: list[Chunk]
    rows: Rows | None
    finite: Array
    logit_difference: Array | None
    root_heads: RootHeads | None


def follow(
    prepared: Prepared, batch: Batch, observed: Observed, config: TraceConfig, roots: Sequence[Root]
) -> Following:
    """Stage 2; waits for stage 1, then returns at once, the device computes on; or with many firings and few roots
    reads from the top what they reach.

    Args:
        roots: those named.
    """
    (firings, every), shape = firings_of(prepared, observed, batch.place, config), prepared.model.config
    heads, order = _written_roots(prepared, batch, observed, config), WriterOrder.of(shape.n_layers, shape.n_heads)

    def gather(chunks: Sequence[Chunk]) -> Rows:
        rows = gather_rows(firings, chunks, order, sides_of(config), relative=is_relative(config))
        return with_through(prepared, observed, rows, order, config.coverage)

    if config.roots != ALL and len(firings) > descending.AT_ONCE:
        read = partial(read_rows, prepared, observed, firings, config)
        start = _root_firings(firings, batch, heads, config, roots)
        chunks, rows = descending.read_reached(firings, start, order, read, lambda chunks: gather(chunks).edges)
    else:
        chunks = _all_layers(prepared, observed, firings, config)
        rows = gather(chunks) if is_relative(config) else None
    params, asked = prepared.model.params, (batch.answer, batch.distractor)
    # A body without a head has no logits at all.
    difference = logit_difference(params, observed.final_read, *asked) if params.has_unembedding else None
    return Following(
        batch=batch,
        fired=every,
        firings=firings if rows is None else rows.firings,
        chunks=chunks,
        rows=rows,
        finite=observed.finite,
        logit_difference=difference,
        root_heads=heads,
    )


def _written_roots(prepared: Prepared, batch: Batch, observed: Observed, config: TraceConfig) -> RootHeads | None:
    """The heads that roots from the output are; none for other roots."""
    model, scales = prepared.model, prepared.score_scale
    coverage, asked = np.asarray(config.coverage, prepared.dtype), (batch.answer, batch.distractor)
    if config.roots == PROBABILITY:
        targets = parse_targets(config.targets, model.tokenizer, model.config)
        return probability_roots(model.params, observed, batch.last, scales, batch.answer, targets=targets)
    if config.roots != LOGIT:
        return None
    if is_relative(config):
        return split_root_heads(model.params, observed, batch.last, scales, *asked, coverage)
    return root_heads(model.params, observed, batch.last, *asked, coverage)


def finish(
    prepared: Prepared, following: Following, config: TraceConfig, roots: Sequence[Root], keep: Keep | None = None
) -> BatchTrace:
    """Stage 3."""
    shape, batch, firings = prepared.model.config, following.batch, following.firings
    order = WriterOrder.of(shape.n_layers, shape.n_heads)
    rows = following.rows or gather_rows(firings, following.chunks, order, sides_of(config))
    if keep is not None:
        rows = replace(rows, edges=rows.edges.take(np.flatnonzero(keep(batch, rows))))
    start = _root_firings(firings, batch, following.root_heads, config, roots)
    paths, n_saturated = saturated(count_paths(firings, rows.edges, start, order))
    count = len(batch.prompts)
    finite = np.asarray(following.finite)[:count]
    difference = np.nan if following.logit_difference is None else np.asarray(following.logit_difference)
    counts = BatchCounts(
        firings_per_head=following.fired.per_head,
        of_layer_0=following.fired.of_layer_0,
        paths_saturated=n_saturated,
        undecided=following.fired.undecided,
        not_finite=batch.place[:count][~finite],
    )
    return BatchTrace(
        batch=batch,
        rows=rows,
        paths=paths,
        kept=paths > 0,
        finite=finite,
        logit_difference=batch.asked(difference)[:count],
        root_heads=following.root_heads,
        counts=counts,
    )


def batch_tables(
    trace: BatchTrace, order: WriterOrder, tokenizer: Tokenizer | None
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """A batch's prompts, firings and edges as tables of the contract; `tokenizer` says what target tokens are."""
    batch, rows, written = trace.batch, np.flatnonzero(trace.finite), None
    if trace.root_heads is not None:
        written = tables.Written.of(trace.root_heads, rows, order, tokenizer)
    return (
        tables.prompts_table(
            [batch.prompts[row] for row in rows], trace.logit_difference[rows], batch.place[rows], written
        ),
        tables.firings_table(trace.rows, trace.paths, trace.kept, batch.place, batch.prompts),
        tables.edges_table(trace.rows, trace.paths, trace.kept, batch.place, batch.prompts, order),
    )


def attributed(
    prepared: Prepared, observed: Observed, firings: FiringList, layer: int, config: TraceConfig
) -> list[Chunk]:
    """Stage 2 for one layer, dispatched call by call.

    Args:
        observed: of stage 1; firings: of all layers.
    """
    return read_rows(prepared, observed, firings, config, layer, np.nonzero(firings.layer == layer)[0])


def read_rows(
    prepared: Prepared, observed: Observed, firings: FiringList, config: TraceConfig, layer: int, rows: np.ndarray
) -> list[Chunk]:
    """The same of some of the layer's rows of `firings`."""
    if not len(rows):
        return []
    size, n_blocks, chunks = block_size(prepared.platform), _n_blocks(config), []
    parts = prompts_together(rows, firings.prompt[rows], n_blocks * size) if is_relative(config) else [rows]
    for part in parts:
        placed = firings.head[part], firings.prompt[part], observed.scale.shape[1], _arranged_for(prepared, config)
        for row, head in zip(*in_blocks_by_device(part, *placed, size, n_blocks), strict=True):
            # An empty slot repeats row 0; what comes of it is masked.
            at = np.maximum(row, 0)
            blocks = Blocks(prompt=firings.prompt[at], dest=firings.dest[at], src=firings.src[at], head=head)
            chunks.append(_explained(prepared, observed, blocks, row, layer, config))
    return chunks


def _n_blocks(config: TraceConfig) -> int:
    """How many blocks a call has of each device."""
    return blocks_per_call(config.keys) if is_relative(config) else BLOCKS_PER_CALL


def _arranged_for(prepared: Prepared, config: TraceConfig) -> int:
    """Among how many devices blocks are dealt out: `relative` is one program for all, its filled blocks in front."""
    return 1 if is_relative(config) else prepared.devices


def _all_layers(prepared: Prepared, observed: Observed, firings: FiringList, config: TraceConfig) -> list[Chunk]:
    """Stage 2 for all layers, dispatched by as many threads as can be of use."""

    def of_layer(layer: int) -> list[Chunk]:
        # What JAX computes in is a setting of the thread.
        with precision(config):
            return attributed(prepared, observed, firings, layer, config)

    layers = range(1, prepared.model.config.n_layers)
    with ThreadPoolExecutor(prepared.threads) as pool:
        return [chunk for chunks in pool.map(of_layer, layers) for chunk in chunks]


def warm(prepared: Prepared, observed: Observed, config: TraceConfig) -> None:
    """Compile stage 2 for a batch's shape while the device is still at its stage 1: calls without any firing.

    Returns when all is compiled; the calls wait for the device. Cores that are made anew for every call are not made
    for this: those of several layers would be in memory together.
    """
    if prepared.held_cores is None:
        return
    n_layers = prepared.model.config.n_layers
    # One layer of each program.
    layers = {writer_layers(layer, n_layers): layer for layer in range(n_layers - 1, 0, -1)}.values()
    n_blocks = _n_blocks(config) * _arranged_for(prepared, config)
    place = np.zeros((n_blocks, block_size(prepared.platform)), np.int32)
    nowhere = Blocks(prompt=place, dest=place, src=place, head=place[:, 0])
    for layer in layers:
        _explained(prepared, observed, nowhere, place - 1, layer, config)


def _explained(
    prepared: Prepared, observed: Observed, blocks: Blocks, row: np.ndarray, layer: int, config: TraceConfig
) -> Chunk:
    """Stage 2 for one call: the firings of one layer that stand in `blocks`, `row` -1 in empty slots."""
    n_layers, sides = writer_layers(layer, prepared.model.config.n_layers), sides_of(config)
    if is_relative(config):
        return Chunk(row, n_layers, _relatively(prepared, observed, blocks, row, layer, config))
    gather: Callable[..., Collected] = collect
    explain: Callable[..., Attributed] = attribute
    if prepared.mesh is not None:
        gather = partial(collect_by_device, mesh=prepared.mesh)
        explain = partial(attribute_by_device, mesh=prepared.mesh)
    collected = gather(observed, blocks, np.int32(layer), n_layers=n_layers, sides=sides)
    result = explain(
        collected,
        row >= 0,
        blocks.head,
        np.int32(layer),
        prepared.readers[layer - 1],
        prepared.cores(layer),
        prepared.model.params.blocks.b_O,
        np.asarray(config.tau, prepared.dtype),
        np.asarray(config.coverage, prepared.dtype),
        method=config.method,
        sides=sides,
        all_writers=all_writers(config),
    )
    return Chunk(row=row, writer_layers=n_layers, result=result)


def _relatively(
    prepared: Prepared, observed: Observed, blocks: Blocks, row: np.ndarray, layer: int, config: TraceConfig
) -> RelativeFound:
    """The same by section 14. Over several devices XLA decides what lies where."""
    every = thresholds(config, observed.scale.shape[-1])
    return attribute_relative(
        observed,
        blocks,
        in_groups(row, np.asarray(blocks.prompt)),
        row >= 0,
        np.int32(layer),
        prepared.readers[layer - 1],
        prepared.cores(layer),
        prepared.model.params.blocks.b_O,
        prepared.score_scale[layer],
        *(np.asarray(each, prepared.dtype) for each in (config.tau, config.coverage, every)),
        n_layers=writer_layers(layer, prepared.model.config.n_layers),
        sides=sides_of(config),
        all_writers=all_writers(config),
        select=config.select,
        keys=config.keys,
    )


def _root_firings(
    firings: FiringList, batch: Batch, heads: RootHeads | None, config: TraceConfig, roots: Sequence[Root]
) -> np.ndarray:
    """Mark the firings that tracing starts from, [firing]."""
    if config.roots == ALL:
        return np.ones(len(firings), bool)
    if heads is None:
        return named_roots(firings, roots, batch.prompts)
    at_last = firings.dest == batch.last[firings.prompt]
    if heads.attended is not None:
        return np.asarray(heads.attended)[firings.prompt, firings.layer, firings.head, firings.src] & at_last
    return np.asarray(heads.chosen)[firings.prompt, firings.layer, firings.head] & at_last


def all_writers(config: TraceConfig) -> bool:
    """In `paper` and `all` the writers are heads alone, whatever the setting says (METHOD.md, section 5)."""
    return config.writers == "all" and config.method in ("exact", RELATIVE)


def keeps_all(config: TraceConfig) -> bool:
    """Whether the pass keeps what every writer wrote: for edges, or for roots, which may be others than heads."""
    return all_writers(config) or config.roots == PROBABILITY


def keeps_values(config: TraceConfig) -> bool:
    """Whether the pass keeps v: edges or roots are split by what heads attended to."""
    return is_relative(config) or config.roots == PROBABILITY


def keeps_keys(config: TraceConfig) -> bool:
    """Whether the pass arranges what was written by keys: sources are read against their rivals."""
    return is_relative(config) and "src" in sides_of(config)


def is_relative(config: TraceConfig) -> bool:
    """Whether section 14 decides."""
    return config.method == RELATIVE


def sides_of(config: TraceConfig) -> tuple[str, ...]:
    """The sides that a trace follows."""
    return SIDES if config.sides == "both" else (config.sides,)
