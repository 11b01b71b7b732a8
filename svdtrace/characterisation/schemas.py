"""The tables of a characterisation, their columns listed once. Undefined numbers are null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.characterisation.concentration import MEASURES, SETS
from svdtrace.results.columns import described

_DATA_SET = ("data_set", pa.string(), "prompts, or contrast where such prompts were given")
_PROMPT = ("prompt", pa.int32(), "0-based place of the prompt in the input, rejected ones counted")
_OF_HEAD = (("layer", pa.int32(), "layer of the head"), ("head", pa.int32(), "head within its layer"))
_HEAD = (_DATA_SET, *_OF_HEAD)
_OR_ALL = (
    _DATA_SET,
    ("layer", pa.int32(), "layer of the head; null: all heads together"),
    ("head", pa.int32(), "head within its layer; null: all heads together"),
)
_VECTOR = ("k", pa.int32(), "singular vector of the head, from 0, the largest singular value first")
_SIDE = ("side", pa.string(), "dest (the query's token) or src (the key's)")
_FIRINGS = ("firings", pa.int64(), "firings counted")
_FIRING = (
    _PROMPT,
    *_OF_HEAD,
    ("dest", pa.int32(), "destination i: the position of the query"),
    ("src", pa.int32(), "source j: the position of the key"),
    ("dest_string", pa.string(), "text of the token at dest"),
    ("src_string", pa.string(), "text of the token at src"),
)
_MEASURED = {
    "top1": "share of the largest contribution",
    "top5": "share of the five largest contributions together",
    "effective": "how many heads would share the total evenly, exp of the shares' entropy",
    "net": "|sum of contributions| over the sum of their sizes, 1 where nothing cancels",
}
_BY = {"slice": "contributions by S", "all": "contributions by every vector"}

SCHEMAS: dict[str, pa.Schema] = {
    # A head on a data set.
    "heads": described(
        *_HEAD,
        ("firings", pa.int64(), "firings of the head"),
        ("firings_any_score", pa.int64(), "pairs with a pattern of the threshold or more, whatever the score"),
        ("idle_pairs", pa.int64(), "pairs looked at that do not fire"),
        ("mean_size", pa.float32(), "mean |S| of the firings"),
        ("median_size", pa.float32(), "median |S| of the firings"),
        ("idle_mean_size", pa.float32(), "mean |S| of the pairs that do not fire"),
        ("idle_median_size", pa.float32(), "median |S| of the pairs that do not fire"),
        ("used", pa.list_(pa.int32()), "singular vectors in at least half of the firings' slices"),
        (
            "auc_dest",
            pa.float32(),
            "area under the ROC curve of tokens of names against others, by task tokens of dest",
        ),
        ("auc_src", pa.float32(), "the same by task tokens of src"),
    ),
    "sizes": described(
        *_HEAD,
        ("fires", pa.bool_(), "firings, or the other pairs"),
        ("size", pa.int32(), "|S|; sizes that do not occur have no row"),
        ("count", pa.int64(), "how many have a slice of this size"),
    ),
    "vectors": described(
        *_HEAD,
        _VECTOR,
        ("sigma", pa.float32(), "singular value"),
        ("firings", pa.int64(), "firings that have the vector in their slice"),
        ("share", pa.float32(), "these over all firings of the head"),
        ("mean_product", pa.float32(), "mean product p_k (under relative P_k) over all firings of the head"),
    ),
    "vectors_by_prompt": described(
        _DATA_SET,
        _PROMPT,
        *_OF_HEAD,
        _VECTOR,
        ("times", pa.int32(), "firings in this prompt with the vector in their slice; vectors in none have no row"),
        ("firings", pa.int32(), "firings of the head in this prompt"),
    ),
    # What τ costs.
    "tau": described(
        *_OR_ALL,
        ("tau", pa.float32(), "share of the total that a slice must exceed"),
        _FIRINGS,
        ("mean_size", pa.float32(), "mean |S| at this tau"),
        ("kept_median", pa.float32(), "share of the total that S keeps, median over firings"),
        ("kept_of_sum", pa.float32(), "share of the summed totals that S keeps"),
    ),
    # How far the spans of two heads' used vectors overlap; each pair once.
    "overlaps": described(
        *_HEAD,
        ("other_layer", pa.int32(), "layer of the other head"),
        ("other_head", pa.int32(), "the other head within its layer"),
        ("dest", pa.float32(), "overlap of the spans of the left vectors that both use, 0 to 1"),
        ("src", pa.float32(), "overlap of the spans of the right vectors that both use, 0 to 1"),
    ),
    # Task tokens.
    "tokens": described(
        *_HEAD,
        _SIDE,
        ("rank", pa.int32(), "place by norm, from 1"),
        ("token", pa.int32(), "token id"),
        ("string", pa.string(), "the token's text"),
        ("count", pa.int64(), "how often it was looked at"),
        ("norm", pa.float32(), "mean norm of its projection onto the vectors that the head uses on prompts"),
        ("named", pa.bool_(), "whether it is one of the names"),
        ("auc", pa.float32(), "area under the ROC curve of names against other tokens, by norm"),
    ),
    # What slices filter out.
    "filtering": described(
        _DATA_SET,
        ("layer", pa.int32(), "layer of the head; null: all heads of layer 1 and above together"),
        ("head", pa.int32(), "head within its layer; null likewise"),
        _SIDE,
        _FIRINGS,
        *(
            (f"{measure}_{part}", pa.float32(), f"mean over the firings, {_BY[part]}: {_MEASURED[measure]}")
            for measure in MEASURES
            for part in SETS
        ),
        ("ratio", pa.float32(), "mean of effective_all over effective_slice, firing by firing"),
        ("ratio_low", pa.float32(), "lower end of its 95 % bootstrap interval over firings"),
        ("ratio_high", pa.float32(), "upper end of it"),
    ),
    # One firing of `prompts`.
    "firing_products": described(
        *_FIRING,
        ("place", pa.int32(), "place among the products, the largest first"),
        _VECTOR,
        ("product", pa.float32(), "p_k (METHOD.md, section 4), under relative P_k (section 14.2)"),
        ("running_sum", pa.float32(), "sum of the products up to this one"),
        ("total", pa.float32(), "sum of all products"),
        ("member", pa.bool_(), "whether k is in S"),
    ),
    # The same firing: what every head below contributed to it.
    "firing_contributions": described(
        *_FIRING,
        _SIDE,
        ("writer_layer", pa.int32(), "layer of the head that contributes"),
        ("writer_head", pa.int32(), "that head within its layer"),
        *((name, pa.float32(), f"{_BY[name]}, unit of total") for name in SETS),
    ),
    # The kinds of edges of `prompts` with the largest summed weight, and the signal that they carry.
    "signals": described(
        ("signal", pa.int32(), "number of the kind of edge, the heaviest first"),
        ("writer", pa.string(), "what wrote, as in edges.parquet"),
        ("reader", pa.string(), "the head that reads, LAYER.HEAD"),
        ("side", pa.string(), "dest (it reads through the query) or src (through the key)"),
        ("role", pa.string(), "role of the token written to"),
        ("edges", pa.int64(), "edges of this kind"),
        ("weight", pa.float32(), "sum of their weights"),
        ("norm", pa.float32(), "mean norm of their signals"),
        ("kept", pa.float32(), "mean share of what was written that is in the signal"),
        ("agreement", pa.float32(), "how alike the occurrences' signals are"),
        ("tokens", pa.list_(pa.int32()), "token ids of the nearest unembedding columns, the nearest first"),
        ("strings", pa.list_(pa.string()), "their texts"),
        ("cosines", pa.list_(pa.float32()), "their cosines with the mean signal"),
    ),
    "signal_pairs": described(
        ("signal", pa.int32(), "number of one kind of edge in signals"),
        ("other", pa.int32(), "number of the other"),
        ("cosine", pa.float32(), "cosine between their mean signals"),
        ("same_writer", pa.bool_(), "one head at one role, read twice"),
        ("same_reader", pa.bool_(), "one head reads both"),
    ),
}


def filled(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """A table of `SCHEMAS` from its columns; what is not a number becomes null."""
    schema = SCHEMAS[name]
    return pa.table([_column(columns[each.name], each.type) for each in schema], schema=schema)


def from_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of `SCHEMAS` from its rows."""
    return filled(name, {each: [row[each] for row in rows] for each in SCHEMAS[name].names})


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    if pa.types.is_floating(kind):
        numbers = np.asarray(values, np.float32)
        return pa.array(numbers, kind, mask=~np.isfinite(numbers))
    return pa.array(values, kind)
