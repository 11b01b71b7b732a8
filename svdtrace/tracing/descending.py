"""A batch's firings read layer by layer from the top, those alone that roots reach (METHOD.md, section 7).

What leads to a layer's firings is known once all layers above are read, so that each layer waits for the one before;
but of long prompts, where nearly every token of every head fires, roots reach few, and the others are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from svdtrace.method.firings import FiringList
from svdtrace.tracing.paths import reached
from svdtrace.tracing.rows import Chunk, Rows, WriterOrder, in_one

AT_ONCE = 2**14
"""Firings of a batch up to which all are read, so that no layer waits for another."""


def read_reached(
    firings: FiringList,
    start: np.ndarray,
    order: WriterOrder,
    read: Callable[[int, np.ndarray], list[Chunk]],
    gather: Callable[[Sequence[Chunk]], Rows],
) -> tuple[list[Chunk], Rows]:
    """Read firings, the highest layer's first.

    Args:
        start: marks the firings that are roots.
        read: what comes of a layer's rows of `firings`.
        gather: the rows of what was read, edges with all that says where they lead.

    Returns:
        The calls' results and their rows; what no root reaches has no edges and an empty slice.
    """
    wanted, chunks, parts = start.copy(), [], []
    for layer in range(order.n_layers - 1, 0, -1):
        found = read(layer, np.flatnonzero(wanted & (firings.layer == layer)))
        if found:
            rows = gather(found)
            wanted[reached(firings, rows.edges, order)[1]] = True
            chunks += found
            parts.append(rows)
    return chunks, in_one(parts) if parts else gather([])
