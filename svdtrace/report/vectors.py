"""Singular vectors counted over the slices of firings: by head, and by the connections that feed them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from svdtrace.results.grouping import integers
from svdtrace.results.in_parts import Tables, columns

PLACE = ("prompt", "layer", "head", "dest", "src")
"""Columns that say which firing an edge belongs to."""
_ROWS_AT_ONCE = 1_000_000


class VectorCount:
    """How often each singular vector is in the slices of the firings of each connection's edges, part by part.

    Args:
        kept: how many of the connections, the first ones, are counted.
        n_vectors: singular vectors of a head.
    """

    def __init__(self, kept: int, n_vectors: int) -> None:
        self.counts = np.zeros((kept, n_vectors), int)

    def add(self, part: Tables, connection: Int[np.ndarray, " row"]) -> None:
        """See `svdtrace.pictures.connections.EdgeCount`."""
        (rows,) = np.nonzero(connection < len(self.counts))
        firings, edges = columns(part, "firings", (*PLACE, "slice")), columns(part, "edges", PLACE)
        firing = firing_of_edges(firings, edges)[rows]
        self.counts += vector_counts(firings, firing, connection[rows], *self.counts.shape)


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
        firings, edges: the columns `PLACE` of the tables of one trace, or of one part of it; both are in its order.
    """
    of_firing, of_edge = np.zeros(firings.num_rows, int), np.zeros(edges.num_rows, int)
    for name in PLACE:
        both = [integers(table[name]) for table in (firings, edges)]
        least = min((int(each.min()) for each in both if len(each)), default=0)
        width = 1 + max(int(each.max(initial=least)) for each in both) - least
        of_firing, of_edge = of_firing * width + both[0] - least, of_edge * width + both[1] - least
    # Edges of one firing stand together: the first of them is looked up.
    first = np.diff(of_edge, prepend=-1) != 0
    return np.searchsorted(of_firing, of_edge[first])[np.cumsum(first) - 1]
