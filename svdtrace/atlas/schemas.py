"""The tables of an atlas, their columns listed once. Undefined numbers are null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.results.columns import described

_WRITER = ("writer", pa.string(), "head that writes, 4.11")
_READER = (("layer", pa.int32(), "layer of the reader"), ("head", pa.int32(), "head of the reader within its layer"))
_OF_HEAD = (("layer", pa.int32(), "layer of the head"), ("head", pa.int32(), "head within its layer"))
_SIDE = ("side", pa.string(), "what the reader reads with: q (query), k (key)")
_NULL = (
    ("null_mean", pa.float32(), "mean of share with the reader's directions turned at random in the centred residual"),
    ("null_sd", pa.float32(), "its standard deviation"),
)

SCHEMAS: dict[str, pa.Schema] = {
    # Every pair of a head and a later one, and each side of the reader.
    "composition": described(
        _WRITER,
        ("writer_layer", pa.int32(), "layer of the writer"),
        ("writer_head", pa.int32(), "head of the writer within its layer"),
        *_READER,
        ("side", pa.string(), "what the reader reads with: q (query), k (key), v (value)"),
        ("score", pa.float32(), "composition score, weights without bias rows; null where one of the two is zero"),
        (
            "null_mean",
            pa.float32(),
            "mean of score with the writer's directions turned at random in the centred residual",
        ),
        ("null_sd", pa.float32(), "its standard deviation"),
        ("rank", pa.int32(), "rank of score among the reader's earlier heads on this side, 1 the largest"),
        ("beyond", pa.float32(), "score less the writer's and the reader's median on this side, plus that of all"),
        ("beyond_rank", pa.int32(), "rank of beyond among the reader's earlier heads on this side, 1 the largest"),
        ("with_bias", pa.float32(), "score with the other side's bias row in the reader's matrix; null on v"),
        (
            "half",
            pa.int32(),
            "how many of the reader's singular vectors carry half of the square of with_bias; null on v",
        ),
    ),
    # What of a writer falls on each singular vector of a reader.
    "vectors": described(
        _WRITER,
        *_READER,
        _SIDE,
        ("vector", pa.int32(), "singular vector k of the reader, from 0, the largest singular value first"),
        ("share", pa.float32(), "share of what the writer can write that falls on the vector"),
        *_NULL,
        ("block", pa.int32(), "first vector of the block of near-equal singular values that this one belongs to"),
    ),
    # Likewise, of vectors that no measurement tells apart.
    "blocks": described(
        _WRITER,
        *_READER,
        _SIDE,
        ("block", pa.int32(), "first vector of a block of two or more with near-equal singular values"),
        ("size", pa.int32(), "how many vectors it has"),
        ("share", pa.float32(), "share of what the writer can write that falls on their span"),
        *_NULL,
    ),
    "heads": described(
        *_OF_HEAD,
        ("sigma", pa.float32(), "largest singular value of the query-key matrix, bias rows in it"),
        ("sigma_2", pa.float32(), "its second"),
        ("sigma_no_bias", pa.float32(), "largest singular value without bias rows"),
        ("sigma_2_no_bias", pa.float32(), "its second"),
        ("qk_positivity", pa.float32(), "sum of the eigenvalues of W_Q W_K^T over that of their sizes"),
        ("ov_positivity", pa.float32(), "the same of W_V W_O: 1 copies, -1 writes the opposite of what was read"),
        ("qk_participation", pa.float32(), "over how many directions W_Q W_K^T spreads evenly"),
        ("ov_participation", pa.float32(), "over how many directions W_V W_O spreads evenly"),
        ("most_written_q", pa.list_(pa.int32()), "vectors of the query that earlier heads write into most"),
        ("most_written_k", pa.list_(pa.int32()), "vectors of the key that earlier heads write into most"),
        ("position_spread", pa.float32(), "standard deviation over sources of the score from positions alone"),
        ("position_previous", pa.float32(), "pattern from positions alone at the token before, mean"),
        ("position_self", pa.float32(), "pattern from positions alone at the token itself, mean"),
    ),
    # A singular vector of a head.
    "singular": described(
        *_OF_HEAD,
        ("vector", pa.int32(), "singular vector k, from 0, the largest singular value first"),
        ("sigma", pa.float32(), "singular value, bias rows in the matrix"),
        ("sigma_no_bias", pa.float32(), "the k-th singular value without bias rows"),
        ("counts", pa.bool_(), "within the rank (METHOD.md, section 2)"),
        ("block", pa.int32(), "first vector of its block of near-equal singular values"),
        ("bias_q", pa.float32(), "share of u_k that lies on the bias row: the square of its last entry"),
        ("bias_k", pa.float32(), "the same of v_k"),
        ("written_q", pa.float32(), "mean share of earlier heads on u_k, in units of chance; null in layer 0"),
        ("written_k", pa.float32(), "mean share of earlier heads on v_k, in units of chance; null in layer 0"),
        ("position_share", pa.float32(), "share of the vector in the score's variance from positions alone"),
    ),
    # Scores from the position embedding alone.
    "positions": described(
        *_OF_HEAD,
        ("dest", pa.int32(), "destination i: the position of the query, from 1"),
        ("src", pa.int32(), "source j: the position of the key, from 1"),
        ("score", pa.float32(), "attention score if the residual held nothing but the position embedding"),
    ),
    # Directions of the residual that many heads share.
    "directions": described(
        ("use", pa.string(), "what heads do with it: read with q, k or v, or written"),
        ("direction", pa.int32(), "from 0, the most used first"),
        ("share", pa.float32(), "share of the mean head's matrix on it, every head counted alike"),
        ("coordinate", pa.int32(), "coordinate of the residual with the largest entry"),
        ("coordinate_share", pa.float32(), "square of that entry: 1 where the direction is that coordinate alone"),
    ),
    # Tokens at the two ends of singular vectors.
    "tokens": described(
        *_OF_HEAD,
        ("vectors", pa.string(), "q, k: of the query-key matrix; read, written: of the output-value matrix"),
        ("vector", pa.int32(), "singular vector, from 0, the largest singular value first"),
        ("end", pa.string(), "+ or -: which end of the vector; both matrices of a pair share it"),
        ("rank", pa.int32(), "from 1, the farthest token first"),
        ("token", pa.int32(), "token id"),
        ("string", pa.string(), "text of the token"),
        ("value", pa.float32(), "its embedding read by the vector, or for written the logit that it raises"),
    ),
    # How well the weights alone predict a trace.
    "prediction": described(
        ("measure", pa.string(), "score, excess (over the null, in its standard deviations) or beyond"),
        ("side", pa.string(), "q or k: the trace's dest or src"),
        ("layer", pa.int32(), "layer of the reader; null: all readers"),
        ("head", pa.int32(), "head of the reader; null: all readers"),
        ("writers", pa.int32(), "earlier heads, summed over readers"),
        ("chosen", pa.int32(), "those of them that an edge of the trace names"),
        ("edges", pa.int64(), "edges of the trace from heads to this side"),
        ("auc", pa.float32(), "probability that a chosen writer stands above one of the same reader that is not"),
        ("auc_edges", pa.float32(), "the same with every edge counted"),
        ("median_rank", pa.float32(), "median rank of an edge's writer among the reader's earlier heads"),
    ),
    # Where each writer that a trace's edges name stands.
    "chosen": described(
        _WRITER,
        *_READER,
        ("side", pa.string(), "q or k: the trace's dest or src"),
        ("edges", pa.int64(), "edges of the trace from this writer to this side of the reader"),
        ("writers", pa.int32(), "earlier heads that the reader has"),
        ("rank_score", pa.int32(), "rank of the writer among them by score, 1 the largest"),
        ("rank_excess", pa.int32(), "rank by excess over the null, in its standard deviations"),
        ("rank_beyond", pa.int32(), "rank by score beyond medians"),
    ),
}


def filled(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """A table of `SCHEMAS` from its columns; what is not a number becomes null."""
    arrays = []
    for field in SCHEMAS[name]:
        values = columns[field.name]
        if pa.types.is_floating(field.type):
            numbers = np.asarray(values, np.float32)
            values = pa.array(numbers, mask=np.isnan(numbers))
        elif not isinstance(values, pa.Array):
            values = pa.array(values)
        arrays.append(values.cast(field.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMAS[name])


def from_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of `SCHEMAS` from its rows."""
    return filled(name, {each: [row[each] for row in rows] for each in SCHEMAS[name].names})
