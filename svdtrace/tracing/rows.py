"""Firings and edges as host arrays, one entry a row, in the order of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from gpt2jax.residual import component_labels
from svdtrace.method.firings import FiringList
from svdtrace.tracing.attribute import SIDES, Attributed
from svdtrace.tracing.relative import RelativeFound
from svdtrace.tracing.relative_sides import SideFound


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
    """S of every firing, ragged: firing f's vectors are `vectors[offset[f] : offset[f + 1]]`, in the order chosen;
    `quadrature` under `relative` alone.
    """

    offset: np.ndarray
    vectors: np.ndarray
    products: np.ndarray
    total: np.ndarray
    near_tie: np.ndarray
    quadrature: np.ndarray | None = None


@dataclass(frozen=True)
class Ragged:
    """A list of whole numbers in every row: row r has `values[offset[r] : offset[r + 1]]`."""

    offset: np.ndarray
    values: np.ndarray

    def take(self, rows: np.ndarray) -> Ragged:
        """Some rows."""
        start, size = self.offset[rows], np.diff(self.offset)[rows]
        offset = np.concatenate([[0], np.cumsum(size)])
        return Ragged(offset, self.values[np.repeat(start - offset[:-1], size) + np.arange(offset[-1])])

    @classmethod
    def end_to_end(cls, parts: Sequence[Ragged]) -> Ragged:
        """Rows of several lists, one list's after another's."""
        size = np.concatenate([np.diff(part.offset) for part in parts])
        return cls(np.concatenate([[0], np.cumsum(size)]), np.concatenate([part.values for part in parts]))


@dataclass(frozen=True)
class RelativeEdges:
    """What edges have under `relative`: `own` c_{w,j} and `drop`, NaN where they are not defined; `unreached`; and,
    from `svdtrace.tracing.attended`, the tokens that the edge goes `through`.

    `coefficient` [edge sv] is what the reader weighs S with, `path` M at the edge's token, `there` what the writer did
    there, c_{w,t}.
    """

    own: np.ndarray
    drop: np.ndarray
    unreached: np.ndarray
    coefficient: np.ndarray
    path: np.ndarray
    there: np.ndarray
    through: Ragged | None = None

    def take(self, rows: np.ndarray) -> RelativeEdges:
        """Some rows."""
        through = None if self.through is None else self.through.take(rows)
        names = [field.name for field in fields(self) if field.name != "through"]
        return RelativeEdges(**{name: getattr(self, name)[rows] for name in names}, through=through)


@dataclass(frozen=True)
class EdgeRows:
    """Edges, sorted by (firing, side, writer, token).

    `firing` is a row of the firings, `side` 0 dest or 1 src, `writer` a code of `WriterOrder`, `token` where it wrote.
    """

    firing: np.ndarray
    side: np.ndarray
    writer: np.ndarray
    weight: np.ndarray
    total: np.ndarray
    near_tie: np.ndarray
    token: np.ndarray
    relative: RelativeEdges | None = None

    def take(self, rows: np.ndarray) -> EdgeRows:
        """Some rows."""
        relative = None if self.relative is None else self.relative.take(rows)
        names = [field.name for field in fields(self) if field.name != "relative"]
        return EdgeRows(*(getattr(self, name)[rows] for name in names), relative=relative)

    @classmethod
    def end_to_end(cls, parts: Sequence[EdgeRows]) -> EdgeRows:
        """Several lists of edges, one's after another's."""

        def columns(of: Sequence[Any], *without: str) -> dict[str, np.ndarray]:
            names = [field.name for field in fields(of[0]) if field.name not in without]
            return {name: np.concatenate([getattr(part, name) for part in of]) for name in names}

        its = [part.relative for part in parts if part.relative is not None]
        through = [each.through for each in its if each.through is not None]
        relative = None
        if its:
            goes = Ragged.end_to_end(through) if through else None
            relative = RelativeEdges(**columns(its, "through"), through=goes)
        return cls(**columns(parts, "relative"), relative=relative)


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
    result: Attributed | RelativeFound


def gather_rows(
    firings: FiringList, chunks: Sequence[Chunk], order: WriterOrder, sides: tuple[str, ...], *, relative: bool = False
) -> Rows:
    """Put the calls' results into the firings' order.

    Args:
        relative: whether the calls are `svdtrace.tracing.relative`'s.
    """
    for array in jax.tree.leaves([chunk.result for chunk in chunks]):
        array.copy_to_host_async()
    return Rows(
        firings=firings,
        slices=gather_slices(len(firings), chunks, relative),
        edges=_edge_rows(firings, chunks, order, np.asarray([SIDES.index(side) for side in sides], np.int8), relative),
    )


def gather_slices(n_firings: int, chunks: Sequence[Chunk], relative: bool) -> SliceRows:
    """The slices of the calls' results in the firings' order; empty where a firing is in no call."""
    dtype = chunks[0].result.products.dtype if chunks else np.float32
    total, near_tie = np.zeros(n_firings, dtype), np.zeros(n_firings, bool)
    size = np.zeros(n_firings, np.int64)
    quadrature = np.zeros(n_firings, dtype) if relative else None
    members = [np.asarray(chunk.result.slices.members) for chunk in chunks]
    for chunk, marked in zip(chunks, members, strict=True):
        filled = chunk.row >= 0
        rows, slices = chunk.row[filled], chunk.result.slices
        total[rows] = np.asarray(slices.total)[filled]
        near_tie[rows] = np.asarray(slices.near_tie)[filled]
        size[rows] = marked[filled].sum(axis=-1)
        if quadrature is not None and isinstance(chunk.result, RelativeFound):
            quadrature[rows] = np.asarray(chunk.result.quadrature)[filled]
    offset = np.concatenate([[0], np.cumsum(size)])
    vectors, products = np.zeros(offset[-1], np.int32), np.zeros(offset[-1], dtype)
    for chunk, marked in zip(chunks, members, strict=True):
        block, slot, sv = found = np.nonzero(marked)
        # Members are a prefix of the order of choice, so their places are 0 … |S|-1.
        at = offset[chunk.row[block, slot]] + np.asarray(chunk.result.slices.place)[found]
        vectors[at], products[at] = sv, np.asarray(chunk.result.products)[found]
    return SliceRows(offset, vectors, products, total, near_tie, quadrature)


def _edge_rows(
    firings: FiringList, chunks: Sequence[Chunk], order: WriterOrder, sides: np.ndarray, relative: bool
) -> EdgeRows:
    parts = []
    for chunk in chunks:
        codes = order.codes_below(chunk.writer_layers)
        if isinstance(chunk.result, RelativeFound):
            parts += [_relative_edges(firings, chunk, codes, int(side), at) for at, side in enumerate(sides)]
        else:
            parts.append(_edges_of(chunk, chunk.result, codes, sides))
    if not parts:
        none = np.zeros(0, np.int64)
        no_number = none.astype(np.float32)
        further = None
        if relative:
            further = RelativeEdges(no_number, no_number, none.astype(bool), no_number[:, None], no_number, no_number)
        return EdgeRows(none, none, none, no_number, no_number, none.astype(bool), none, further)
    firing, side, writer, weight, total, near_tie, *further = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    if not further:
        token = np.where(side == 0, firings.dest[firing], firings.src[firing])
        edges = EdgeRows(firing, side, writer, weight, total, near_tie, token)
        return edges.take(np.lexsort((edges.writer, edges.side, edges.firing)))
    token, own, drop, unreached, coefficient, path, there = further
    its = RelativeEdges(own, drop, unreached, coefficient, path, there)
    edges = EdgeRows(firing, side, writer, weight, total, near_tie, token, its)
    return edges.take(np.lexsort((edges.token, edges.writer, edges.side, edges.firing)))


def _relative_edges(firings: FiringList, chunk: Chunk, codes: np.ndarray, side: int, at: int) -> tuple[np.ndarray, ...]:
    """Columns of `EdgeRows` and of `RelativeEdges`, of the side that stands at place `at` among those traced."""
    result = chunk.result
    assert isinstance(result, RelativeFound)
    found: SideFound = result.sides[at]
    block, slot, candidate = there = np.nonzero(np.asarray(found.choice.chosen))
    firing = chunk.row[block, slot].astype(np.int64)
    writer, own = candidate, np.full(len(firing), np.nan, np.float32)
    token, src = (firings.src if side else firings.dest)[firing], firings.src[firing]
    weight = np.asarray(found.weight)[there]
    if found.own is not None:
        n_writers = found.own.shape[-1]
        n_keys = found.weight.shape[-1] // n_writers
        if n_keys > 1:
            writer, token = candidate // n_keys, (candidate % n_keys).astype(np.int32)
        own = np.asarray(found.own)[block, slot, writer]
    drop = np.full(len(firing), np.nan, np.float32)
    if found.choice.drop is not None:
        drop = np.asarray(found.choice.drop)[there]
    return (
        firing,
        np.full(len(firing), side, np.int8),
        codes[writer],
        weight,
        *(np.asarray(each)[block, slot] for each in (found.choice.total, found.choice.near_tie)),
        token,
        own,
        drop,
        np.asarray(found.choice.unreached)[block, slot],
        np.asarray(result.coefficients[at])[block, slot],
        np.asarray(result.weights)[block, slot, token],
        weight if not side else np.where(token == src, own, weight),
    )


def _edges_of(chunk: Chunk, result: Attributed, codes: np.ndarray, sides: np.ndarray) -> tuple[np.ndarray, ...]:
    edges = result.edges
    found = np.nonzero(np.asarray(edges.chosen))
    side, block, slot, writer = found

    def at_firing(values: Array) -> np.ndarray:
        return np.asarray(values)[side, block, slot]

    return (
        chunk.row[block, slot].astype(np.int64),
        sides[side],
        codes[writer],
        np.asarray(result.weight)[found],
        at_firing(edges.total),
        at_firing(edges.near_tie),
    )
