"""The tables of interventions: their columns, listed once, and how results become them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from svdtrace.interventions.planning import Run
from svdtrace.results.columns import described
from svdtrace.tracing.tables import defined

EDIT = (
    ("edges", pa.string(), "the edges edited as one set, as they were named, joined by commas"),
    ("where", pa.string(), "global (what the writer's layer wrote) or local (what the reader reads)"),
    ("direction", pa.string(), "ablate (the signal taken away) or boost (added once more)"),
    ("control", pa.string(), "none (the signal itself), random (as many random vectors) or norm (of the same norm)"),
)
"""Columns that say what an edit is."""
_KEYS = (
    ("prompt", pa.int32(), "0-based place of the prompt in the input, rejected ones counted"),
    *EDIT,
    ("seed", pa.int32(), "seed of a control's vectors; null without control"),
)
_BEFORE_AND_AFTER = {
    "logit_difference": "logit[answer] - logit[distractor] at the last traced token; null without both",
    "score": "attention score at the reader's pair, attn_scale applied; null for sets of more than one firing",
    "pattern": "attention probability at the reader's pair; null for sets of more than one firing",
}
INTERVENTIONS = described(
    *_KEYS,
    *(
        (f"{name}_{when}", pa.float32(), f"{what}; {when} the edit")
        for name, what in _BEFORE_AND_AFTER.items()
        for when in ("before", "after")
    ),
    (
        "norm_ratio",
        pa.float32(),
        "norm of what was edited, after over before, mean over the set's places; 1 if unedited",
    ),
    ("cosine", pa.float32(), "cosine between what was edited before and after, likewise"),
    ("edited", pa.bool_(), "whether the prompt has a firing of the set; if not, after is before"),
)
MEASURES = described(
    *_KEYS,
    ("kl", pa.float32(), "KL(clean || edited) of the next token's distribution at the last traced token, in nats"),
    ("short_control", pa.bool_(), "the control found fewer vectors outside the slice than it needs"),
)
VALUES = tuple(each.name for each in INTERVENTIONS if pa.types.is_floating(each.type))


def interventions_table(runs: Sequence[Run], values: Mapping[str, np.ndarray]) -> pa.Table:
    """`interventions.parquet`: sorted by prompt, then in the order of the runs. `values`: by name, [run prompt]."""
    columns = [defined(_by_prompt(values[name])) for name in VALUES]
    edited = pa.array(_by_prompt(values["edited"]))
    return pa.table([*_keys(runs, values["edited"].shape[1]), *columns, edited], schema=INTERVENTIONS)


def measures_table(runs: Sequence[Run], values: Mapping[str, np.ndarray]) -> pa.Table:
    """`measures.parquet`: further measures of the same rows in the same order."""
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
