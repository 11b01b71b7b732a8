"""Edges counted together over prompts: the circuit of the page and of the pictures.

A *connection* is what section 8 of METHOD.md calls an edge of the graph, (writer, reader, role), with the two sides
kept apart. A *move* is what a head's firings do: it reads at one role and writes at another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from svdtrace.report.token_roles import TokenRoles

SIDES = ("dest", "src")
_ROWS_AT_ONCE = 1_000_000


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
        share: median of their shares, NaN where none is defined. A side whose total is nearly 0 gives shares of any
            size, which a mean would show instead of what is usual.
        near_tie, nonpositive: how many of them are flagged.
        of_row: the connection of each row of `edges.parquet`.
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
    share: Float[np.ndarray, " connection"]
    near_tie: Int[np.ndarray, " connection"]
    nonpositive: Int[np.ndarray, " connection"]
    of_row: Int[np.ndarray, " row"]

    def __len__(self) -> int:
        return len(self.writer)


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


def connections(edges: pa.Table, roles: TokenRoles) -> Connections:
    """Count edges together.

    Args:
        edges: `edges.parquet`.
        roles: of the same trace's prompts.
    """
    writer, writers = codes(edges["writer"])
    side, sides = codes(edges["side"])
    prompt, token, layer, head = (_integers(edges[name]) for name in ("prompt", "token", "layer", "head"))
    side = np.asarray([SIDES.index(name) for name in sides], int)[side]
    columns = (writer, layer, head, roles.of(prompt, token), side)
    first, group = _groups(columns)
    n_groups = len(first)
    weight, share = (np.asarray(edges[name].to_numpy(), float) for name in ("weight", "share"))
    total = np.bincount(group, weight, n_groups).astype(float)
    order = np.argsort(-total, kind="stable")
    place = np.empty(n_groups, int)
    place[order] = np.arange(n_groups)
    group = place[group]
    count = np.bincount(group, minlength=n_groups)
    chosen = [column[first[order]] for column in columns]
    return Connections(
        writer=[writers[code] for code in chosen[0]],
        layer=chosen[1],
        head=chosen[2],
        role=chosen[3],
        side=chosen[4],
        prompts=_distinct(group, prompt, n_groups),
        count=count,
        weight=total[order] / np.maximum(count, 1),
        total=total[order],
        share=_median(group, share, n_groups),
        near_tie=np.bincount(group[_flags(edges["near_tie"])], minlength=n_groups),
        nonpositive=np.bincount(group[_flags(edges["nonpositive_total"])], minlength=n_groups),
        of_row=group,
    )


def moves(firings: pa.Table, roles: TokenRoles) -> Moves:
    """Count firings together.

    Args:
        firings: `firings.parquet`.
        roles: of the same trace's prompts.
    """
    prompt, layer, head, dest, src = (_integers(firings[name]) for name in ("prompt", "layer", "head", "dest", "src"))
    columns = (layer, head, roles.of(prompt, dest), roles.of(prompt, src))
    first, group = _groups(columns)
    n_groups = len(first)
    count = np.bincount(group, minlength=n_groups)
    order = np.argsort(-count, kind="stable")

    def mean(name: str) -> Float[np.ndarray, " move"]:
        return np.bincount(group, np.asarray(firings[name].to_numpy(), float), n_groups)[order] / count[order]

    prompts = _distinct(group, prompt, n_groups)
    layer, head, dest, src = (column[first[order]] for column in columns)
    return Moves(layer, head, dest, src, prompts[order], count[order], mean("pattern"), mean("size"))


def vector_counts(
    firings: pa.Table, firing: Int[np.ndarray, " row"], group: Int[np.ndarray, " row"], n_groups: int, n_vectors: int
) -> Int[np.ndarray, "group sv"]:
    """How often each singular vector is in the slices of a group's firings.

    Args:
        firings: `firings.parquet`.
        firing: rows of it; one may stand in several groups, or several times in one.
        group: the group of each.
        n_groups, n_vectors: how many there are.
    """
    column = firings["slice"].combine_chunks()
    offset = np.concatenate([[0], np.cumsum(column.value_lengths().to_numpy())]).astype(int)
    vectors = column.flatten().to_numpy()
    counts = np.zeros(n_groups * n_vectors, int)
    for first in range(0, len(firing), _ROWS_AT_ONCE):
        rows, groups = firing[first : first + _ROWS_AT_ONCE], group[first : first + _ROWS_AT_ONCE]
        size = offset[rows + 1] - offset[rows]
        start = np.repeat(offset[rows] - np.concatenate([[0], np.cumsum(size)[:-1]]), size)
        members = vectors[start + np.arange(size.sum())]
        counts += np.bincount(np.repeat(groups, size) * n_vectors + members, minlength=len(counts))
    return counts.reshape(n_groups, n_vectors)


def firing_of_edges(firings: pa.Table, edges: pa.Table) -> Int[np.ndarray, " row"]:
    """The row of `firings.parquet` that each edge belongs to.

    Args:
        firings, edges: the tables of one trace.
    """
    names = ("prompt", "layer", "head", "dest", "src")
    both = [np.concatenate([_integers(firings[name]), _integers(edges[name])]) for name in names]
    _, key = _groups(both)
    of_firing, of_edge = key[: firings.num_rows], key[firings.num_rows :]
    row = np.zeros(key.max(initial=-1) + 1, int)
    row[of_firing] = np.arange(len(of_firing))
    return row[of_edge]


def codes(column: pa.ChunkedArray) -> tuple[Int[np.ndarray, " row"], list[str]]:
    """Strings as numbers: each row's, and what the numbers stand for.

    Args:
        column: of strings, none null.
    """
    encoded = column.combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(), int), encoded.dictionary.to_pylist()


def _groups(columns: Sequence[np.ndarray]) -> tuple[Int[np.ndarray, " group"], Int[np.ndarray, " row"]]:
    """Rows that are equal in all columns: the first row of each group, and each row's group."""
    key = np.zeros(len(columns[0]), int)
    for column in columns:
        key = key * (int(column.max(initial=0)) + 1) + column
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return first, group


def _median(group: np.ndarray, value: np.ndarray, n_groups: int) -> Float[np.ndarray, " group"]:
    """The median of each group's defined values, NaN where there are none."""
    defined = ~np.isnan(value)
    order = np.lexsort((value[defined], group[defined]))
    group, value = group[defined][order], value[defined][order]
    count = np.bincount(group, minlength=n_groups)
    first = np.cumsum(count) - count
    median = np.full(n_groups, np.nan)
    some = count > 0
    low, high = (first + (count - 1) // 2)[some], (first + count // 2)[some]
    median[some] = (value[low] + value[high]) / 2
    return median


def _distinct(group: np.ndarray, prompt: np.ndarray, n_groups: int) -> Int[np.ndarray, " group"]:
    """Distinct prompts in each group."""
    width = int(prompt.max(initial=0)) + 1
    return np.bincount(np.unique(group * width + prompt) // width, minlength=n_groups)


def _integers(column: pa.ChunkedArray) -> Int[np.ndarray, " row"]:
    return np.asarray(column.to_numpy(), int)


def _flags(column: pa.ChunkedArray) -> Bool[np.ndarray, " row"]:
    return np.asarray(column.to_numpy(), bool)
