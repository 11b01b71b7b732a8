"""Singular vectors counted over the slices of firings: by head, and by the connections that feed them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from svdtrace.pictures.connections import Connections
from svdtrace.pictures.token_roles import TokenRoles
from svdtrace.results.grouping import distinct_rows, integers
from svdtrace.results.in_parts import Tables

_ROWS_AT_ONCE = 1_000_000


class VectorCount:
    """How often each singular vector is in the slices of the firings of each connection's edges, part by part.

    Args:
        linked: the connections.
        kept: how many of them, the first ones, are counted.
        n_vectors: singular vectors of a head.
    """

    def __init__(self, linked: Connections, kept: int, n_vectors: int) -> None:
        self._linked = linked
        self.counts = np.zeros((kept, n_vectors), int)

    def add(self, part: Tables, roles: TokenRoles) -> None:
        """See `svdtrace.pictures.connections.Count`."""
        connection = self._linked.of(part.edges, roles)
        rows = np.nonzero(connection < len(self.counts))[0]
        firing = firing_of_edges(part.firings, part.edges)[rows]
        self.counts += vector_counts(part.firings, firing, connection[rows], *self.counts.shape)


def vector_counts(
    firings: pa.Table, firing: Int[np.ndarray, " row"], group: Int[np.ndarray, " row"], n_groups: int, n_vectors: int
) -> Int[np.ndarray, "group sv"]:
    """How often each singular vector is in the slices of a group's firings.

    Args:
        firings: `firings.parquet`, or a part of it.
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
        firings, edges: the tables of one trace, or of one part of it.
    """
    names = ("prompt", "layer", "head", "dest", "src")
    both = [np.concatenate([integers(firings[name]), integers(edges[name])]) for name in names]
    _, key = distinct_rows(both)
    of_firing, of_edge = key[: firings.num_rows], key[firings.num_rows :]
    row = np.zeros(key.max(initial=-1) + 1, int)
    row[of_firing] = np.arange(len(of_firing))
    return row[of_edge]
