"""The tables of a characterisation, their columns listed once.

`data_set` is `prompts` or `contrast`. Undefined numbers are null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

_DATA_SET = ("data_set", pa.string())
_HEAD = (_DATA_SET, ("layer", pa.int32()), ("head", pa.int32()))

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
