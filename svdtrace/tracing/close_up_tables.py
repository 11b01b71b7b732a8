"""The tables of what is looked at closely: their columns, listed once, and how they come about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from gpt2jax.tokenizer import Tokenizer
from svdtrace.results.columns import described
from svdtrace.tracing.close_up import CloseUps, Seen
from svdtrace.tracing.pipeline import BatchTrace
from svdtrace.tracing.rows import SIDES, WriterOrder
from svdtrace.tracing.tables import FIRINGS, defined, named

_OF_FIRING = "null in the row of the firing itself"
CLOSE_UPS = pa.schema(
    [
        *(FIRINGS.field(name) for name in ("prompt", "layer", "head", "dest", "src")),
        *described(
            ("writer", pa.string(), f"the edge's writer; {_OF_FIRING}"),
            ("side", pa.string(), f"the edge's side, dest or src; {_OF_FIRING}"),
            ("token", pa.int32(), f"position at which the writer wrote; {_OF_FIRING}"),
            ("weight", pa.float32(), f"the edge's weight; {_OF_FIRING}"),
            (
                "by_vector",
                pa.list_(pa.float32()),
                f"what of it is through each vector of the firing's slice, in the slice's order; {_OF_FIRING}",
            ),
            (
                "scores",
                pa.list_(pa.float32()),
                "over the keys 0 to dest: the scores before the softmax, attn_scale applied; in an edge's row what its "
                "writer put into them through the slice, under relative alone",
            ),
            (
                "path",
                pa.list_(pa.float32()),
                "over the keys 0 to dest: the path weights M (section 14.1), under relative alone; null in an edge's "
                "row",
            ),
        ),
    ]
)
LIKELIEST = pa.schema(
    [
        FIRINGS.field("prompt"),
        *described(
            ("rank", pa.int32(), "1 is the likeliest token at the last traced token"),
            ("token", pa.int32(), "token id"),
            ("string", pa.string(), "the token's own text; its id without a tokenizer"),
            ("probability", pa.float32(), "the token's, among all"),
        ),
    ]
)


def close_up_tables(
    found: CloseUps, kept: Seen, trace: BatchTrace, order: WriterOrder, tokenizer: Tokenizer | None
) -> tuple[pa.Table, pa.Table]:
    """`close_ups.parquet` and `likeliest.parquet` of a batch: each firing's row, and behind it those of its edges."""
    firings, edges = trace.rows.firings, trace.rows.edges.take(found.edge)
    both = np.concatenate([found.firing, edges.firing])
    none = np.full(len(found.firing), -1)
    side, writer = (np.concatenate([none, each]) for each in (edges.side, edges.writer))
    token = np.concatenate([none, edges.token])
    nothing = [None] * len(found.firing)
    no_rows: list[np.ndarray | None] = [None] * len(found.edge)
    rows = np.lexsort((token, writer, side, both))
    columns = [
        trace.batch.place[firings.prompt[both]],
        *(getattr(firings, name)[both] for name in ("layer", "head", "dest", "src")),
        named(order.labels, writer),
        named(SIDES, side),
        pa.array(token.astype(np.int32), pa.int32(), mask=token < 0),
        defined(np.concatenate([np.full(len(nothing), np.nan), edges.weight])),
        _lists([*nothing, *found.by_vector]),
        _lists([*found.scores, *(found.put or no_rows)]),
        _lists([*(found.path or nothing), *no_rows]),
    ]
    table = pa.table([pa.array(each) for each in columns], schema=CLOSE_UPS)
    return table.take(pa.array(rows)), _likeliest(found, trace, kept, tokenizer)


def _likeliest(found: CloseUps, trace: BatchTrace, kept: Seen, tokenizer: Tokenizer | None) -> pa.Table:
    if found.token is None or found.probability is None:
        return LIKELIEST.empty_table()
    finite = trace.finite[kept.row]
    token, probability = found.token[finite], found.probability[finite]
    ids = [int(each) for each in token.ravel()]
    return pa.table(
        [
            pa.array(np.repeat(trace.batch.place[kept.row[finite]], token.shape[1]), pa.int32()),
            pa.array(np.tile(np.arange(1, token.shape[1] + 1), len(token)), pa.int32()),
            pa.array(ids, pa.int32()),
            pa.array([str(each) if tokenizer is None else tokenizer.strings([each])[0] for each in ids], pa.string()),
            defined(probability.ravel()),
        ],
        schema=LIKELIEST,
    )


def _lists(rows: Sequence[np.ndarray | None]) -> pa.Array:
    offset = np.concatenate([[0], np.cumsum([0 if row is None else len(row) for row in rows])]).astype(np.int32)
    values = [row for row in rows if row is not None]
    absent = np.asarray([row is None for row in rows] + [False])
    flat = defined(np.concatenate(values) if values else np.zeros(0))
    return pa.ListArray.from_arrays(pa.array(offset, mask=absent), flat)
