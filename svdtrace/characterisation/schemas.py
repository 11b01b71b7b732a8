"""The tables of a characterisation, their columns listed once.

`data_set` is `prompts` or `contrast`. Undefined numbers are null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.characterisation.concentration import MEASURES, SETS

_DATA_SET = ("data_set", pa.string())
_HEAD = (_DATA_SET, ("layer", pa.int32()), ("head", pa.int32()))
_FIRING = (
    *((name, pa.int32()) for name in ("prompt", "layer", "head", "dest", "src")),
    *((name, pa.string()) for name in ("dest_string", "src_string")),
)

SCHEMAS: dict[str, pa.Schema] = {
    # A head on a data set. `firings_any_score`: pattern ≥ threshold whatever the score; `idle_pairs`: pairs looked at
    # that do not fire; `used`: vectors in at least half of the slices; `auc_…`: of names against other tokens.
    "heads": pa.schema(
        [
            *_HEAD,
            *((name, pa.int64()) for name in ("firings", "firings_any_score", "idle_pairs")),
            *((name, pa.float32()) for name in ("mean_size", "median_size", "idle_mean_size", "idle_median_size")),
            ("used", pa.list_(pa.int32())),
            *((name, pa.float32()) for name in ("auc_dest", "auc_src")),
        ]
    ),
    # How many firings (`fires`) or other pairs have a slice of each size; sizes that do not occur have no row.
    "sizes": pa.schema([*_HEAD, ("fires", pa.bool_()), ("size", pa.int32()), ("count", pa.int64())]),
    # A singular vector of a head: in how many firings' slices it is, and its mean product over all the head's firings.
    "vectors": pa.schema(
        [
            *_HEAD,
            ("k", pa.int32()),
            ("sigma", pa.float32()),
            ("firings", pa.int64()),
            *((name, pa.float32()) for name in ("share", "mean_product")),
        ]
    ),
    # The same by prompt: in how many of the head's `firings` in that prompt; vectors in none have no row.
    "vectors_by_prompt": pa.schema(
        [
            _DATA_SET,
            ("prompt", pa.int32()),
            *_HEAD[1:],
            ("k", pa.int32()),
            ("times", pa.int32()),
            ("firings", pa.int32()),
        ]
    ),
    # What τ costs, by head and (layer and head null) over all: mean |S|, and the share of the score that S keeps, the
    # median over firings and of the summed scores.
    "tau": pa.schema(
        [
            *_HEAD,
            ("tau", pa.float32()),
            ("firings", pa.int64()),
            *((name, pa.float32()) for name in ("mean_size", "kept_median", "kept_of_sum")),
        ]
    ),
    # How far the spans of two heads' used vectors overlap; each pair once.
    "overlaps": pa.schema(
        [
            *_HEAD,
            ("other_layer", pa.int32()),
            ("other_head", pa.int32()),
            *((name, pa.float32()) for name in ("dest", "src")),
        ]
    ),
    # Task tokens: mean norm of a token's projection onto the vectors that the head uses on `prompts`; ranked from 1.
    "tokens": pa.schema(
        [
            *_HEAD,
            ("side", pa.string()),
            ("rank", pa.int32()),
            ("token", pa.int32()),
            ("string", pa.string()),
            ("count", pa.int64()),
            ("norm", pa.float32()),
            ("named", pa.bool_()),
            ("auc", pa.float32()),
        ]
    ),
    # What slices filter out, by head and side, over the head's firings of layer ≥ 1 (layer and head null: over all of
    # them): means of the measures of `concentration` for contributions by S and by every vector, and the interval (95%,
    # bootstrap over firings) of the mean of effective_all / effective_slice.
    "filtering": pa.schema(
        [
            *_HEAD,
            ("side", pa.string()),
            ("firings", pa.int64()),
            *((f"{measure}_{part}", pa.float32()) for measure in MEASURES for part in SETS),
            *((name, pa.float32()) for name in ("ratio", "ratio_low", "ratio_high")),
        ]
    ),
    # One firing of `prompts`: its products, largest first, what of them is in S, their running sum.
    "firing_products": pa.schema(
        [
            *_FIRING,
            ("place", pa.int32()),
            ("k", pa.int32()),
            *((name, pa.float32()) for name in ("product", "running_sum", "total")),
            ("member", pa.bool_()),
        ]
    ),
    # The same firing: what every head below contributed to it, by S and by every vector.
    "firing_contributions": pa.schema(
        [
            *_FIRING,
            ("side", pa.string()),
            ("writer_layer", pa.int32()),
            ("writer_head", pa.int32()),
            *((name, pa.float32()) for name in SETS),
        ]
    ),
    # The kinds of edges of `prompts` with the largest summed weight, and the signal that they carry: mean norm, mean
    # share of what was written (`kept`), how alike its occurrences are (`agreement`), the nearest unembedding columns.
    "signals": pa.schema(
        [
            ("signal", pa.int32()),
            ("writer", pa.string()),
            ("reader", pa.string()),
            ("side", pa.string()),
            ("role", pa.string()),
            ("edges", pa.int64()),
            *((name, pa.float32()) for name in ("weight", "norm", "kept", "agreement")),
            ("tokens", pa.list_(pa.int32())),
            ("strings", pa.list_(pa.string())),
            ("cosines", pa.list_(pa.float32())),
        ]
    ),
    # Cosine between the mean signals of two kinds of edges; `same_writer`: one head at one role, read twice.
    "signal_pairs": pa.schema(
        [
            ("signal", pa.int32()),
            ("other", pa.int32()),
            ("cosine", pa.float32()),
            ("same_writer", pa.bool_()),
            ("same_reader", pa.bool_()),
        ]
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
