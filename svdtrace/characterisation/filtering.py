"""Contributions with slices beside contributions with every vector, over all firings of a data set (section 9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import jax
import numpy as np

from svdtrace.characterisation.concentration import MEASURES, Compared, compare_contributions
from svdtrace.characterisation.usage import observed_batches
from svdtrace.config import TraceConfig
from svdtrace.method.firings import FiringList, fired
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.attribute import Blocks, Collected, collect, in_blocks
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.over_keys import collect_over_keys, over_keys
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import is_relative
from svdtrace.tracing.prepare import Prepared, writer_layers
from svdtrace.tracing.rows import SIDES

Key = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class HeadEdges:
    """Edges from heads, one entry each: where the reader fires, its side (0 dest), the writer m H + a, the weight."""

    prompt: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    dest: np.ndarray
    src: np.ndarray
    side: np.ndarray
    writer: np.ndarray
    weight: np.ndarray

    @property
    def token(self) -> np.ndarray:
        """Where the writer wrote."""
        return np.where(self.side == 0, self.dest, self.src)

    def take(self, rows: np.ndarray) -> HeadEdges:
        """Some edges."""
        return HeadEdges(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True)
class Filtering:
    """What slices filter out, on a data set.

    `layer`, `head` [firing] of firings of layer ≥ 1; `measures` [firing measure set side]; `edges` by slices; `example`
    the contributions to one firing, [set side writer], where it was asked for and met.
    """

    layer: np.ndarray
    head: np.ndarray
    measures: np.ndarray
    edges: HeadEdges
    example: np.ndarray | None


def filtering_of(
    prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, example: Key | None = None
) -> Filtering:
    """Compare contributions at every firing of layer ≥ 1.

    Args:
        example: a firing (prompt, layer, head, dest, src) whose contributions are kept whole.
    """
    parts: list[tuple[np.ndarray, ...]] = []
    edges: list[HeadEdges] = []
    shown = None
    for batch, observed in observed_batches(prepared, prompts, config):
        found = fired(pairs_of(prepared, observed, config), config)
        calls = [
            call
            for layer in range(1, prepared.model.config.n_layers)
            for call in _dispatched(prepared, observed, found, layer, config)
        ]
        for row, compared in calls:
            filled = row >= 0
            at = row[filled]
            parts.append((found.layer[at], found.head[at], _defined(np.asarray(compared.measures)[..., filled])))
            edges.append(_edges(found, row, compared, batch.place))
            keys = (batch.place[found.prompt[at]], found.layer[at], found.head[at], found.dest[at], found.src[at])
            here = np.ones(len(at), bool) if example is not None else np.zeros(len(at), bool)
            for column, value in zip(keys, example or (), strict=False):
                here &= column == value
            if here.any():
                shown = np.asarray(compared.weight)[..., filled, :][:, :, np.flatnonzero(here)[0]]
    empty = np.zeros(0, np.int64)
    none = (empty, empty, np.zeros((len(MEASURES), 2, len(SIDES), 0)))
    layer, head, measures = (np.concatenate(column, axis=-1) for column in zip(none, *parts, strict=True))
    names = [each.name for each in fields(HeadEdges)]
    joined = HeadEdges(*(np.concatenate([empty, *(getattr(part, name) for part in edges)]) for name in names))
    return Filtering(layer, head, np.moveaxis(measures, -1, 0), joined, shown)


def _defined(measures: np.ndarray) -> np.ndarray:
    """The measures, NaN where nothing is contributed."""
    return np.where(measures[MEASURES.index("effective")] > 0, measures, np.nan)


def _dispatched(
    prepared: Prepared, observed: Observed, found: FiringList, layer: int, config: TraceConfig
) -> list[tuple[np.ndarray, Compared]]:
    """One layer's firings, call by call: their rows [block slot], -1 in empty slots, and what comes of them."""
    rows = np.flatnonzero(found.layer == layer)
    if not len(rows):
        return []
    calls = []
    for row, head in zip(*in_blocks(rows, found.head[rows]), strict=True):
        at = np.maximum(row, 0)
        blocks = Blocks(prompt=found.prompt[at], dest=found.dest[at], src=found.src[at], head=head)
        compared = compare_contributions(
            _collected(prepared, observed, blocks, row >= 0, layer, config),
            head,
            np.int32(layer),
            prepared.readers[layer - 1],
            prepared.cores(layer),
            np.asarray(config.tau, prepared.dtype),
            np.asarray(config.coverage, prepared.dtype),
            method="exact" if is_relative(config) else config.method,
        )
        calls.append((row, compared))
    for array in jax.tree.leaves([compared for _, compared in calls]):
        array.copy_to_host_async()
    return calls


def _collected(
    prepared: Prepared, observed: Observed, blocks: Blocks, filled: np.ndarray, layer: int, config: TraceConfig
) -> Collected:
    """What one call's firings read: at their own tokens, or under `relative` at all keys."""
    at, n_layers = np.int32(layer), writer_layers(layer, prepared.model.config.n_layers)
    if not is_relative(config):
        return collect(observed, blocks, at, n_layers=n_layers, sides=SIDES)
    read = over_keys(observed, blocks, filled, at, prepared.score_scale[layer], keys=config.keys)
    return collect_over_keys(observed, blocks, read, at, n_layers=n_layers, sides=SIDES)


def _edges(found: FiringList, row: np.ndarray, compared: Compared, places: np.ndarray) -> HeadEdges:
    side, block, slot, writer = np.nonzero(np.asarray(compared.chosen) & (row >= 0)[..., None])
    at = row[block, slot]
    return HeadEdges(
        prompt=places[found.prompt[at]],
        layer=found.layer[at],
        head=found.head[at],
        dest=found.dest[at],
        src=found.src[at],
        side=side,
        writer=writer,
        weight=np.asarray(compared.weight)[0, side, block, slot, writer],
    )
