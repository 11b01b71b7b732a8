"""What a trace shows of chance: columns of its edges, and which edges remain at a false-discovery rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from svdtrace.nulls.buckets import role_numbers
from svdtrace.nulls.candidates import Candidates
from svdtrace.nulls.draws import KINDS
from svdtrace.results.circuit_graph import OTHER
from svdtrace.tracing.batching import Batch
from svdtrace.tracing.rows import SIDES, Rows
from svdtrace.tracing.tables import P_VALUES, Q_VALUE


def survivors(found: Candidates, q_value: np.ndarray, fdr: float) -> Callable[[Batch, Rows], np.ndarray]:
    """A choice of a batch's edges: those with a q-value of at most `fdr`, as a mask of its edge rows."""

    def keep(batch: Batch, rows: Rows) -> np.ndarray:
        firings, edges = rows.firings, rows.edges
        at = edges.firing
        token = np.where(edges.side == 0, firings.dest[at], firings.src[at])
        role = role_numbers(batch.prompts, found.roles, batch.tokens.shape)[firings.prompt[at], token]
        key = found.keys(edges.side, firings.layer[at], firings.head[at], role, edges.writer)
        return _looked_up(found.key, q_value, key) <= fdr

    return keep


def with_columns(edges: pa.Table, found: Candidates, p_of: Mapping[str, np.ndarray], q_value: np.ndarray) -> pa.Table:
    """The edges with `p_slices`, `p_bases`, `p_prompts` and `q_value`; null where a null says nothing.

    Args:
        edges: of a trace.
        found: the candidates; p_of: their p-values by kind; q_value: theirs over every kind.
    """
    columns = _columns_of(edges, found)
    key = found.keys(*columns)
    for kind in KINDS:
        if kind in p_of:
            p = _looked_up(found.key, p_of[kind], key)
            if kind == "prompts":
                p = np.where(found.is_shuffled(*columns), p, np.nan)
        else:
            p = np.full(len(key), np.nan)
        edges = edges.append_column(P_VALUES[kind], pa.array(p, pa.float64(), mask=np.isnan(p)))
    return edges.append_column(Q_VALUE, pa.array(_looked_up(found.key, q_value, key), pa.float64()))


def places_of(edges: pa.Table, found: Candidates) -> np.ndarray:
    """Which candidates a trace's edges are, as places in their columns, each once."""
    return np.flatnonzero(np.isin(found.key, found.keys(*_columns_of(edges, found))))


def _columns_of(edges: pa.Table, found: Candidates) -> tuple[np.ndarray, ...]:
    """Side, layer, head, role and writer of edges, as numbers."""
    number = {name: at for at, name in enumerate(found.roles)}
    code = {name: at for at, name in enumerate(found.order.labels)}
    side = np.asarray([SIDES.index(each) for each in edges["side"].to_pylist()], np.int64)
    layer, head = (edges[name].to_numpy().astype(np.int64) for name in ("layer", "head"))
    role = np.asarray([number[role or OTHER] for role in edges["role"].to_pylist()], np.int64)
    writer = np.asarray([code[each] for each in edges["writer"].to_pylist()], np.int64)
    return side, layer, head, role, writer


def _looked_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The values of keys, which are sorted; 1 for a candidate that is not listed."""
    if not len(keys):
        return np.ones(len(wanted))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 1.0)
