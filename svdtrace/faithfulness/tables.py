"""The tables of `circuit`: their columns, listed once.

| table | columns |
| --- | --- |
| `faithfulness` | order (`traced`: the trace's edges by total weight; `attribution`: all candidates by attribution patching; `random`), seed (of a random order, else null), edges (how many), kind (`faithfulness`: nothing else is kept; `completeness`: they are removed), logit_difference (mean over prompts) with low and high (95 % bootstrap over prompts), value (share of clean − nothing; null where these are equal) |
| `agreement` | edge (`WRITER:READER@ROLE/SIDE`), traced (mean weight a prompt: the sum over its occurrences, over all prompts), attribution (attribution patching), path_patching (mean drop of the logit difference without it) |
| `output_heads` | layer, head, direct (mean direct effect), chosen (share of prompts in which it is a root head), ablation (mean drop of the logit difference with its output at its mean), ablation_log_probability (the same of the answer's log-probability) |
| `faithfulness_log_probability` | as `faithfulness`, by the answer's log-probability, log_probability in place of logit_difference |
| `agreement_log_probability` | as `agreement`, by the answer's log-probability |
"""  # noqa: E501

from __future__ import annotations

import numpy as np
import pyarrow as pa

from svdtrace.faithfulness.curves import KINDS
from svdtrace.faithfulness.editing import MEASURES
from svdtrace.faithfulness.measured import CLEAN, Measured
from svdtrace.statistics import bootstrap_interval
from svdtrace.tracing.tables import defined

FAITHFULNESS, FAITHFULNESS_LOG_PROBABILITY = (
    pa.schema(
        [
            ("order", pa.string()),
            ("seed", pa.int32()),
            ("edges", pa.int32()),
            ("kind", pa.string()),
            *((name, pa.float32()) for name in (measure, "low", "high", "value")),
        ]
    )
    for measure in MEASURES
)
AGREEMENT = AGREEMENT_LOG_PROBABILITY = pa.schema(
    [("edge", pa.string()), *((name, pa.float32()) for name in ("traced", "attribution", "path_patching"))]
)
OUTPUT_HEADS = pa.schema(
    [
        *((name, pa.int32()) for name in ("layer", "head")),
        *((name, pa.float32()) for name in ("direct", "chosen", "ablation", "ablation_log_probability")),
    ]
)


def faithfulness_table(measured: Measured, measure: int) -> pa.Table:
    """`faithfulness.parquet` or its twin, by one of the measures."""
    rows = measured.of_measure(measure)
    sets, values = measured.sets, measured.of_sets[rows, measure]
    orders = [measured.orders[each] for each in sets.order[rows]]
    interval = np.array([bootstrap_interval(row) for row in values]).reshape(-1, 2)
    columns = [
        [order.name for order in orders],
        [order.seed for order in orders],
        sets.size[rows].astype(np.int32),
        [KINDS[kind] for kind in sets.kind[rows]],
        *(defined(column) for column in (values.mean(axis=1), *interval.T)),
        defined(measured.recovered(measure)[rows].mean(axis=1)),
    ]
    return _table(columns, (FAITHFULNESS, FAITHFULNESS_LOG_PROBABILITY)[measure])


def agreement_table(
    names: list[str], traced: np.ndarray, attribution: np.ndarray, measured: Measured, measure: int
) -> pa.Table:
    """`agreement.parquet` or its twin: the edges that were patched one by one, the heaviest first.

    Args:
        names, traced: of these edges.
        attribution: the same, [measure edge].
    """
    drop = (measured.ends[CLEAN] - measured.patched)[:, measure].mean(axis=-1)
    return _table([names, *map(defined, (traced, attribution[measure], drop))], AGREEMENT)


def output_heads_table(direct: np.ndarray, chosen: np.ndarray, drop: np.ndarray) -> pa.Table:
    """`output_heads.parquet`, every head.

    Args:
        direct, chosen: means over prompts, [layer head].
        drop: the same, [layer head measure].
    """
    layer, head = np.indices(direct.shape).reshape(2, -1).astype(np.int32)
    columns = (direct, chosen, *np.moveaxis(drop, -1, 0))
    return _table([layer, head, *(defined(column.reshape(-1)) for column in columns)], OUTPUT_HEADS)


def _table(columns: list, schema: pa.Schema) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.table(arrays, schema=schema)
