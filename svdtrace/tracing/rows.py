"""Firings and edges as host arrays, one entry a row, in the order of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import jax
import numpy as np
from jaxtyping import Array

from gpt2jax.residual import component_labels
from svdtrace.method.firings import FiringList
from svdtrace.tracing.attribute import SIDES, Attributed


@dataclass(frozen=True)
class WriterOrder:
    """All writers of a model in the order of METHOD.md, section 5; a writer's code is its place in it.

    `layer` and `head` are -1 where a writer has none.
    """

    labels: tuple[str, ...]
    layer: np.ndarray
    head: np.ndarray
    n_layers: int
    n_heads: int

    @classmethod
    def of(cls, n_layers: int, n_heads: int) -> WriterOrder:
        """The writers of a model with these many layers and heads."""
        by_layer = np.arange(n_layers)
        none = np.full(3, -1)
        return cls(
            labels=(*component_labels(n_layers, n_layers, n_heads), "const"),
            layer=np.concatenate([np.repeat(by_layer, n_heads), by_layer, by_layer, none]),
            head=np.concatenate([np.tile(np.arange(n_heads), n_layers), np.full(2 * n_layers + 3, -1)]),
            n_layers=n_layers,
            n_heads=n_heads,
        )

    def codes_below(self, layer: int) -> np.ndarray:
        """Codes of the writers of the layers below `layer`, in the order in which contributions list them."""
        n_all_heads = self.n_layers * self.n_heads
        return np.concatenate(
            [
                np.arange(layer * self.n_heads),
                n_all_heads + np.arange(layer),
                n_all_heads + self.n_layers + np.arange(layer),
                n_all_heads + 2 * self.n_layers + np.arange(3),
            ]
        )


@dataclass(frozen=True)
class SliceRows:
    """S of every firing, ragged: firing f's vectors are `vectors[offset[f] : offset[f + 1]]`, in the order chosen."""

    offset: np.ndarray
    vectors: np.ndarray
    products: np.ndarray
    total: np.ndarray
    near_tie: np.ndarray


@dataclass(frozen=True)
class EdgeRows:
    """Edges, sorted by (firing, side, writer).

    `firing` is a row of the firings, `side` 0 dest or 1 src, `writer` a code of `WriterOrder`.
    """

    firing: np.ndarray
    side: np.ndarray
    writer: np.ndarray
    weight: np.ndarray
    total: np.ndarray
    near_tie: np.ndarray

    def take(self, rows: np.ndarray) -> EdgeRows:
        """Some rows."""
        return EdgeRows(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Rows:
    """A batch's firings with their slices and edges."""

    firings: FiringList
    slices: SliceRows
    edges: EdgeRows


@dataclass(frozen=True)
class Chunk:
    """What came back for one call of `svdtrace.tracing.attribute`: the firings' rows [block slot], how many layers of
    writers were gathered for them, and the results.
    """

    row: np.ndarray
    writer_layers: int
    result: Attributed


def gather_rows(firings: FiringList, chunks: Sequence[Chunk], order: WriterOrder, sides: tuple[str, ...]) -> Rows:
    """Put the calls' results into the firings' order."""
    for array in jax.tree.leaves([chunk.result for chunk in chunks]):
        array.copy_to_host_async()
    return Rows(
        firings=firings,
        slices=_slice_rows(len(firings), chunks),
        edges=_edge_rows(chunks, order, np.asarray([SIDES.index(side) for side in sides], np.int8)),
    )


def _slice_rows(n_firings: int, chunks: Sequence[Chunk]) -> SliceRows:
    dtype = chunks[0].result.products.dtype if chunks else np.float32
    total, near_tie = np.zeros(n_firings, dtype), np.zeros(n_firings, bool)
    size = np.zeros(n_firings, np.int64)
    members = [np.asarray(chunk.result.slices.members) for chunk in chunks]
    for chunk, marked in zip(chunks, members, strict=True):
        filled = chunk.row >= 0
        rows, slices = chunk.row[filled], chunk.result.slices
        total[rows] = np.asarray(slices.total)[filled]
        near_tie[rows] = np.asarray(slices.near_tie)[filled]
        size[rows] = marked[filled].sum(axis=-1)
    offset = np.concatenate([[0], np.cumsum(size)])
    vectors, products = np.zeros(offset[-1], np.int32), np.zeros(offset[-1], dtype)
    for chunk, marked in zip(chunks, members, strict=True):
        block, slot, sv = found = np.nonzero(marked)
        # Members are a prefix of the order of choice, so their places are 0 … |S|-1.
        at = offset[chunk.row[block, slot]] + np.asarray(chunk.result.slices.place)[found]
        vectors[at], products[at] = sv, np.asarray(chunk.result.products)[found]
    return SliceRows(offset=offset, vectors=vectors, products=products, total=total, near_tie=near_tie)


def _edge_rows(chunks: Sequence[Chunk], order: WriterOrder, sides: np.ndarray) -> EdgeRows:
    parts = [_edges_of(chunk, order.codes_below(chunk.writer_layers), sides) for chunk in chunks]
    if not parts:
        none = np.zeros(0, np.int64)
        return EdgeRows(none, none, none, none.astype(np.float32), none.astype(np.float32), none.astype(bool))
    edges = EdgeRows(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return edges.take(np.lexsort((edges.writer, edges.side, edges.firing)))


def _edges_of(chunk: Chunk, codes: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, ...]:
    edges = chunk.result.edges
    found = np.nonzero(np.asarray(edges.chosen))
    side, block, slot, writer = found

    def at_firing(values: Array) -> np.ndarray:
        return np.asarray(values)[side, block, slot]

    return (
        chunk.row[block, slot].astype(np.int64),
        sides[side],
        codes[writer],
        np.asarray(chunk.result.weight)[found],
        at_firing(edges.total),
        at_firing(edges.near_tie),
    )
