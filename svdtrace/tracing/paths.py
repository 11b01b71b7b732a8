"""Ways from the roots down to every firing (METHOD.md, section 7).

Counted layer by layer from the top, in integers; where a count could leave 63 bits, in Python's own.
"""

from __future__ import annotations

import numpy as np

from svdtrace.method.firings import FiringList
from svdtrace.tracing.rows import EdgeRows, Ragged, WriterOrder

LARGEST = 2**63 - 1
_SAFE = float(2**62)


def reached(firings: FiringList, edges: EdgeRows, order: WriterOrder) -> tuple[np.ndarray, np.ndarray]:
    """Which firing each edge leads on to.

    An edge from a head at token t leads to every firing of that head in that prompt whose destination is t; under
    `relative` to those whose source it goes through, too.

    Returns:
        Pairs (edge row, firing row).
    """
    token = edges.token
    if edges.relative is not None and edges.relative.through is not None:
        return _through(firings, edges, edges.relative.through, order)
    top = 1 + max(int(firings.dest.max(initial=0)), int(token.max(initial=0)))

    def key(prompt: np.ndarray, layer: np.ndarray, head: np.ndarray, dest: np.ndarray) -> np.ndarray:
        # Firings are sorted by these four, so equal keys stand together.
        return ((prompt.astype(np.int64) * order.n_layers + layer) * order.n_heads + head) * top + dest

    firing_key = key(firings.prompt, firings.layer, firings.head, firings.dest)
    is_head = order.head[edges.writer] >= 0
    rows = np.nonzero(is_head)[0]
    writer = edges.writer[rows]
    edge_key = key(firings.prompt[edges.firing[rows]], order.layer[writer], order.head[writer], token[rows])
    first = np.searchsorted(firing_key, edge_key, side="left")
    count = np.searchsorted(firing_key, edge_key, side="right") - first
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    return np.repeat(rows, count), np.repeat(first, count) + within


def _through(
    firings: FiringList, edges: EdgeRows, through: Ragged, order: WriterOrder
) -> tuple[np.ndarray, np.ndarray]:
    """Under `relative` an edge leads to those firings alone that it goes through (METHOD.md, section 14.6)."""
    rows = np.repeat(np.arange(len(edges.firing)), np.diff(through.offset))
    writer, prompt = edges.writer[rows], firings.prompt[edges.firing[rows]]
    top = 1 + max(int(each.max(initial=0)) for each in (firings.dest, edges.token))

    def key(prompt: np.ndarray, layer: np.ndarray, head: np.ndarray, dest: np.ndarray, src: np.ndarray) -> np.ndarray:
        return (((prompt.astype(np.int64) * order.n_layers + layer) * order.n_heads + head) * top + dest) * top + src

    firing_key = key(firings.prompt, firings.layer, firings.head, firings.dest, firings.src)
    edge_key = key(prompt, order.layer[writer], order.head[writer], edges.token[rows], through.values)
    at = np.searchsorted(firing_key, edge_key)
    found = at < len(firing_key)
    found[found] = firing_key[at[found]] == edge_key[found]
    return rows[found], at[found]


def count_paths(firings: FiringList, edges: EdgeRows, roots: np.ndarray, order: WriterOrder) -> np.ndarray:
    """paths(f) = [f is a root] + the sum of paths over the edges that lead to it.

    Args:
        roots: marks the firings that are roots.

    Returns:
        Counts [firing], int64 or, where one is larger, Python integers (dtype object).
    """
    edge, target = reached(firings, edges, order)
    source = edges.firing[edge]
    steps = _by_layer(firings.layer[source])
    estimate = _counted(roots.astype(np.float64), source, target, steps)
    exact = np.int64 if estimate.max(initial=0.0) < _SAFE else object
    return _counted(roots.astype(np.int64).astype(exact), source, target, steps)


def saturated(paths: np.ndarray) -> tuple[np.ndarray, int]:
    """The counts as int64, what is larger held at 2^63 - 1, and how many were."""
    if paths.dtype != object:
        return paths, 0
    beyond = np.asarray([count > LARGEST for count in paths], bool)
    return np.where(beyond, LARGEST, paths).astype(np.int64), int(beyond.sum())


def _by_layer(layer: np.ndarray) -> list[np.ndarray]:
    """Rows of each layer, from the top down."""
    return [np.nonzero(layer == each)[0] for each in sorted(set(layer.tolist()), reverse=True)]


def _counted(start: np.ndarray, source: np.ndarray, target: np.ndarray, steps: list[np.ndarray]) -> np.ndarray:
    paths = start.copy()
    for rows in steps:
        np.add.at(paths, target[rows], paths[source[rows]])
    return paths
