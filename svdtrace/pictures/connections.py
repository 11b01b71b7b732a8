"""Edges counted together over prompts: the circuit of the page and of the pictures.

A *connection* is an edge of the graph of METHOD.md, section 8, (writer, role of the token where it wrote, reader,
side), wherever the reader fires. A *move* is what a head's firings do: it reads at one role and writes at another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from svdtrace.pictures.token_roles import role_codes
from svdtrace.results.grouping import Groups, Names, distinct_prompts, grown, integers
from svdtrace.results.in_parts import Tables, columns

SIDES = ("dest", "src")
KEYS = ("writer", "layer", "head", "role", "side")
"""Columns of edges that say which connection an edge belongs to."""


@runtime_checkable
class Count(Protocol):
    """Something that is counted over a trace, part by part."""

    def add(self, part: Tables, names: Sequence[str], /) -> None:
        """Count some more prompts.

        Args:
            part: their tables.
            names: of the roles, from `role_names`.
        """
        ...


def count(parts: Iterable[Tables], names: Sequence[str], *counts: Count) -> None:
    """Count several things over a trace, each part being read once.

    Args:
        parts: of a trace.
        names: of the roles, from `role_names`.
        counts: what is counted.
    """
    for part in parts:
        for each in counts:
            each.add(part, names)
        del part


@runtime_checkable
class EdgeCount(Protocol):
    """Something that is counted over edges whose connections are known, part by part."""

    def add(self, part: Tables, connection: Int[np.ndarray, " row"], /) -> None:
        """Count the edges of some more prompts.

        Args:
            part: their tables.
            connection: of each edge, from `Connections.of`.
        """
        ...


def count_edges(parts: Iterable[Tables], names: Sequence[str], linked: Connections, *counts: EdgeCount) -> None:
    """Count several things over a trace's edges, each part being read once.

    Args:
        parts: of a trace.
        names: of the roles, from `role_names`.
        linked: the connections of the same trace.
        counts: what is counted.
    """
    for part in parts:
        connection = linked.of(columns(part, "edges", KEYS), names)
        for each in counts:
            each.add(part, connection)
        del part


class EdgeKeys:
    """Numbers for what edges are counted together by: writer, reader, role of the token, side."""

    def __init__(self) -> None:
        self.writers, self.groups = Names(), Groups()

    def of(self, edges: pa.Table, names: Sequence[str]) -> Int[np.ndarray, " row"]:
        """The group of each edge.

        Args:
            edges: the columns `KEYS` of `edges.parquet`, or of a part of it.
            names: of the roles, from `role_names`.
        """
        writer, role = self.writers.of(edges["writer"]), role_codes(edges["role"], names)
        layer, head = integers(edges["layer"]), integers(edges["head"])
        return self.groups.of([writer, layer, head, role, Names(SIDES).of(edges["side"])])


@dataclass(frozen=True)
class Connections:
    """Connections, the largest total first; one entry of every field each.

    Args:
        writer: names of writers, `8.6` or `mlp.3`.
        layer, head: the reader.
        role: number of the token's role.
        side: 0 destination, 1 source.
        prompts: distinct prompts that have it.
        count: edges counted together.
        weight, total: mean and sum of their weights.
        near_tie, nonpositive: how many of them are flagged.
        keys: the groups that edges are counted together by.
        place: the connection of each group.
    """

    writer: Sequence[str]
    layer: Int[np.ndarray, " connection"]
    head: Int[np.ndarray, " connection"]
    role: Int[np.ndarray, " connection"]
    side: Int[np.ndarray, " connection"]
    prompts: Int[np.ndarray, " connection"]
    count: Int[np.ndarray, " connection"]
    weight: Float[np.ndarray, " connection"]
    total: Float[np.ndarray, " connection"]
    near_tie: Int[np.ndarray, " connection"]
    nonpositive: Int[np.ndarray, " connection"]
    keys: EdgeKeys
    place: Int[np.ndarray, " connection"]

    def __len__(self) -> int:
        return len(self.writer)

    def of(self, edges: pa.Table, names: Sequence[str]) -> Int[np.ndarray, " row"]:
        """The connection of each edge, of those that were counted.

        Args:
            edges, names: see `EdgeKeys.of`.
        """
        return self.place[self.keys.of(edges, names)]


class ConnectionCount:
    """Counts edges together, part by part."""

    def __init__(self) -> None:
        self._keys, self._total = EdgeKeys(), np.zeros(0)
        self._counts = {name: np.zeros(0, int) for name in ("prompts", "count", "near_tie", "nonpositive")}

    def add(self, part: Tables, names: Sequence[str]) -> None:
        """See `Count`."""
        edges = columns(part, "edges", (*KEYS, "prompt", "weight", "near_tie", "nonpositive_total"))
        group = self._keys.of(edges, names)
        many = len(self._keys.groups)
        self._total = grown(self._total, many)
        np.add.at(self._total, group, np.asarray(edges["weight"].to_numpy(), float))
        found = {
            "prompts": distinct_prompts(group, integers(edges["prompt"]), many),
            "count": np.bincount(group, minlength=many),
            "near_tie": np.bincount(group[_flags(edges["near_tie"])], minlength=many),
            "nonpositive": np.bincount(group[_flags(edges["nonpositive_total"])], minlength=many),
        }
        self._counts = {name: grown(counts, many) + found[name] for name, counts in self._counts.items()}

    def connections(self) -> Connections:
        """What was counted."""
        writer, *others = self._keys.groups.columns(5)
        order = _largest_first(self._total, [writer, *others])
        place = np.empty(len(order), int)
        place[order] = np.arange(len(order))
        writers, counts = self._keys.writers.all(), {name: each[order] for name, each in self._counts.items()}
        layer, head, role, side = (column[order] for column in others)
        return Connections(
            writer=[writers[code] for code in writer[order]],
            layer=layer,
            head=head,
            role=role,
            side=side,
            **counts,
            weight=self._total[order] / np.maximum(counts["count"], 1),
            total=self._total[order],
            keys=self._keys,
            place=place,
        )


@dataclass(frozen=True)
class Moves:
    """Firings counted together by head and the roles of their tokens, most frequent first."""

    layer: Int[np.ndarray, " move"]
    head: Int[np.ndarray, " move"]
    dest: Int[np.ndarray, " move"]
    src: Int[np.ndarray, " move"]
    prompts: Int[np.ndarray, " move"]
    count: Int[np.ndarray, " move"]
    pattern: Float[np.ndarray, " move"]
    size: Float[np.ndarray, " move"]


class MoveCount:
    """Counts firings together, part by part."""

    def __init__(self) -> None:
        self._groups = Groups()
        self._prompts, self._count = np.zeros(0, int), np.zeros(0, int)
        self._sums = {name: np.zeros(0) for name in ("pattern", "size")}

    def add(self, part: Tables, names: Sequence[str]) -> None:
        """See `Count`."""
        wanted = ("prompt", "layer", "head", "dest_role", "src_role", "pattern", "size")
        firings = columns(part, "firings", wanted)
        prompt, layer, head = (integers(firings[name]) for name in ("prompt", "layer", "head"))
        group = self._groups.of([layer, head, *(role_codes(firings[name], names) for name in wanted[3:5])])
        many = len(self._groups)
        self._prompts = grown(self._prompts, many) + distinct_prompts(group, prompt, many)
        self._count = grown(self._count, many) + np.bincount(group, minlength=many)
        for name in self._sums:
            self._sums[name] = grown(self._sums[name], many)
            np.add.at(self._sums[name], group, np.asarray(firings[name].to_numpy(), float))

    def moves(self) -> Moves:
        """What was counted."""
        found = self._groups.columns(4)
        order = _largest_first(self._count, found)
        layer, head, dest, src = (column[order] for column in found)
        count = self._count[order]
        means = {name: sums[order] / count for name, sums in self._sums.items()}
        return Moves(layer, head, dest, src, self._prompts[order], count, **means)


def _largest_first(size: np.ndarray, columns: Sequence[np.ndarray]) -> Int[np.ndarray, " group"]:
    """The order of groups by size; among equals by the columns, the first one first."""
    by_columns = np.lexsort(columns[::-1])
    return by_columns[np.argsort(-size[by_columns], kind="stable")]


def _flags(column: pa.ChunkedArray) -> Bool[np.ndarray, " row"]:
    return np.asarray(column.to_numpy(), bool)
