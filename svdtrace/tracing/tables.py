"""The tables of a trace: their columns, listed once, and how host rows become them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.rows import SIDES, Rows, WriterOrder

PROMPTS = pa.schema(
    [
        ("prompt", pa.int32()),
        ("id", pa.string()),
        ("tokens", pa.list_(pa.int32())),
        ("strings", pa.list_(pa.string())),
        ("roles", pa.map_(pa.string(), pa.int32())),
        ("answer", pa.int32()),
        ("distractor", pa.int32()),
        ("logit_difference", pa.float32()),
        ("text", pa.string()),
    ]
)
FIRINGS = pa.schema(
    [
        *((name, pa.int32()) for name in ("prompt", "layer", "head", "dest", "src")),
        *((name, pa.float32()) for name in ("pattern", "score", "total")),
        ("size", pa.int32()),
        ("slice", pa.list_(pa.int32())),
        ("products", pa.list_(pa.float32())),
        ("near_tie", pa.bool_()),
        ("paths", pa.int64()),
    ]
)
EDGES = pa.schema(
    [
        ("prompt", pa.int32()),
        ("writer", pa.string()),
        *((name, pa.int32()) for name in ("writer_layer", "writer_head", "layer", "head", "dest", "src")),
        ("side", pa.string()),
        ("token", pa.int32()),
        *((name, pa.float32()) for name in ("weight", "share")),
        *((name, pa.bool_()) for name in ("near_tie", "nonpositive_total")),
        ("paths", pa.int64()),
    ]
)


def prompts_table(
    prompts: Sequence[Prompt], logit_difference: np.ndarray, places: Sequence[int] | np.ndarray | None = None
) -> pa.Table:
    """`prompts.parquet`; `places` are the prompts' 0-based places in the input, 0, 1, 2, … by default."""
    columns = [
        pa.array(range(len(prompts)) if places is None else places, pa.int32()),
        pa.array([prompt.id for prompt in prompts], pa.string()),
        pa.array([list(prompt.tokens) for prompt in prompts], pa.list_(pa.int32())),
        pa.array([list(prompt.strings) for prompt in prompts], pa.list_(pa.string())),
        pa.array([list(prompt.roles.items()) for prompt in prompts], pa.map_(pa.string(), pa.int32())),
        pa.array([prompt.answer for prompt in prompts], pa.int32()),
        pa.array([prompt.distractor for prompt in prompts], pa.int32()),
        defined(logit_difference),
        pa.array([prompt.text for prompt in prompts], pa.string()),
    ]
    return pa.table(columns, schema=PROMPTS)


def firings_table(rows: Rows, paths: np.ndarray, kept: np.ndarray, places: np.ndarray) -> pa.Table:
    """`firings.parquet`: the rows marked by `kept`; `places` maps a batch's prompts to their places in the input."""
    firings, slices = rows.firings, rows.slices
    chosen = np.nonzero(kept)[0]
    start, stop = slices.offset[chosen], slices.offset[chosen + 1]
    size = stop - start
    members = np.repeat(start - np.concatenate([[0], np.cumsum(size)[:-1]]), size) + np.arange(size.sum())
    offsets = pa.array(np.concatenate([[0], np.cumsum(size)]), pa.int32())
    columns = [
        places[firings.prompt[chosen]],
        *(getattr(firings, name)[chosen] for name in ("layer", "head", "dest", "src")),
        *(defined(column[chosen]) for column in (firings.pattern, firings.score, slices.total)),
        size.astype(np.int32),
        pa.ListArray.from_arrays(offsets, pa.array(slices.vectors[members], pa.int32())),
        pa.ListArray.from_arrays(offsets, defined(slices.products[members])),
        slices.near_tie[chosen],
        paths[chosen],
    ]
    return pa.table([pa.array(column) for column in columns], schema=FIRINGS)


def edges_table(rows: Rows, paths: np.ndarray, kept: np.ndarray, places: np.ndarray, order: WriterOrder) -> pa.Table:
    """`edges.parquet`: the edges of the firings marked by `kept`; an edge's multiplicity is its reader's paths."""
    firings = rows.firings
    edges = rows.edges.take(np.nonzero(kept[rows.edges.firing])[0])
    reader = edges.firing
    dest, src = firings.dest[reader], firings.src[reader]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(edges.total == 0, np.nan, edges.weight / edges.total)
    columns = [
        places[firings.prompt[reader]],
        _named(order.labels, edges.writer),
        _nullable(order.layer[edges.writer]),
        _nullable(order.head[edges.writer]),
        firings.layer[reader],
        firings.head[reader],
        dest,
        src,
        _named(SIDES, edges.side),
        np.where(edges.side == 0, dest, src),
        defined(edges.weight),
        defined(share),
        edges.near_tie,
        edges.total <= 0,
        paths[reader],
    ]
    return pa.table([pa.array(column) for column in columns], schema=EDGES)


def defined(values: np.ndarray) -> pa.Array:
    """float32 with null in place of what is not a number."""
    values = np.asarray(values, np.float32)
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _nullable(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int32), pa.int32(), mask=values < 0)


def _named(names: Sequence[str], codes: np.ndarray) -> pa.Array:
    return pa.array(names, pa.string()).take(pa.array(codes.astype(np.int32)))
