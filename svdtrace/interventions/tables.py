"""The tables of interventions: their columns, listed once, and how results become them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from svdtrace.interventions.planning import Run
from svdtrace.tracing.tables import defined

KEYS = pa.schema(
    [
        ("prompt", pa.int32()),
        *((name, pa.string()) for name in ("edges", "where", "direction", "control")),
        ("seed", pa.int32()),
    ]
)
VALUES = (
    "logit_difference_before",
    "logit_difference_after",
    "score_before",
    "score_after",
    "pattern_before",
    "pattern_after",
    "norm_ratio",
    "cosine",
)
INTERVENTIONS = pa.schema([*KEYS, *((name, pa.float32()) for name in VALUES), ("edited", pa.bool_())])
MEASURES = pa.schema([*KEYS, ("kl", pa.float32()), ("short_control", pa.bool_())])


def interventions_table(runs: Sequence[Run], values: Mapping[str, np.ndarray]) -> pa.Table:
    """`interventions.parquet`: sorted by prompt, then in the order of the runs. `values`: by name, [run prompt]."""
    columns = [defined(_by_prompt(values[name])) for name in VALUES]
    edited = pa.array(_by_prompt(values["edited"]))
    return pa.table([*_keys(runs, values["edited"].shape[1]), *columns, edited], schema=INTERVENTIONS)


def measures_table(runs: Sequence[Run], values: Mapping[str, np.ndarray]) -> pa.Table:
    """`measures.parquet`: further measures of the same rows in the same order.

    `kl` is the divergence of the next token's distribution at the last traced one, clean from edited; `short_control`
    marks a control that found fewer vectors outside the slice than it needs.
    """
    keys = _keys(runs, values["edited"].shape[1])
    return pa.table(
        [*keys, defined(_by_prompt(values["kl"])), pa.array(_by_prompt(values["short_control"]))], schema=MEASURES
    )


def _keys(runs: Sequence[Run], n_prompts: int) -> list[pa.Array]:
    seed = np.tile(np.asarray([run.seed for run in runs], np.int32), n_prompts)
    named = {
        "edges": [run.spec.name for run in runs],
        "where": [run.where for run in runs],
        "direction": [run.direction for run in runs],
        "control": [run.control for run in runs],
    }
    place = pa.array(np.tile(np.arange(len(runs), dtype=np.int32), n_prompts))
    return [
        pa.array(np.repeat(np.arange(n_prompts, dtype=np.int32), len(runs))),
        *(pa.array(each, pa.string()).take(place) for each in named.values()),
        pa.array(seed, pa.int32(), mask=seed < 0),
    ]


def _by_prompt(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values.T).reshape(-1)
