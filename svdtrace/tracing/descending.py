"""A batch's firings read layer by layer from the top, those alone that roots reach (METHOD.md, section 7).

What leads to a layer's firings is known once all layers above are read, so that each layer waits for the one before;
but of long prompts, where nearly every token of every head fires, roots reach few, and the others are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from svdtrace.method.firings import FiringList
from svdtrace.tracing.paths import reached
from svdtrace.tracing.rows import Chunk, EdgeRows, Rows, WriterOrder, gather_slices

AT_ONCE = 2**14
"""Firings of a batch up to which all are read, so that no layer waits for another."""


def read_reached(
    firings: FiringList,
    start: np.ndarray,
    order: WriterOrder,
    read: Callable[[int, np.ndarray], list[Chunk]],
    gather: Callable[[Sequence[Chunk]], EdgeRows],
) -> tuple[list[Chunk], Rows]:
    """Read firings, the highest layer's first.

    Args:
        start: marks the firings that are roots.
        read: what comes of a layer's rows of `firings`.
        gather: the edges of what was read, with all that says where they lead.

    Returns:
        The calls' results and their rows, of those firings alone that some root reaches: they may be few of millions.
    """
    wanted, chunks, parts = start.copy(), [], [gather([])]
    for layer in range(order.n_layers - 1, 0, -1):
        found = read(layer, np.flatnonzero(wanted & (firings.layer == layer)))
        if found:
            parts.append(gather(found))
            wanted[reached(firings, parts[-1], order)[1]] = True
            chunks += found
    place = np.cumsum(wanted) - 1
    edges = EdgeRows.end_to_end(parts[1:] or parts)
    edges = replace(edges, firing=place[edges.firing])
    chunks = [replace(each, row=np.where(each.row < 0, -1, place[each.row])) for each in chunks]
    rows = Rows(
        firings=firings.take(wanted),
        slices=gather_slices(int(wanted.sum()), chunks, edges.relative is not None),
        edges=edges.take(np.argsort(edges.firing, kind="stable")),
    )
    return chunks, rows
