"""The tables of `circuit`: their columns, listed once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from svdtrace.faithfulness.curves import KINDS, LEAST_ERRORS
from svdtrace.faithfulness.editing import MEASURES
from svdtrace.faithfulness.measured import CLEAN, Measured
from svdtrace.results.columns import described
from svdtrace.statistics import bootstrap_interval
from svdtrace.tracing.tables import defined

FAITHFULNESS, FAITHFULNESS_LOG_PROBABILITY = (
    described(
        (
            "order",
            pa.string(),
            "which edges first: traced (the trace's, by total weight), attribution (all candidates, by attribution "
            "patching) or random",
        ),
        ("seed", pa.int32(), "seed of a random order, else null"),
        ("edges", pa.int32(), "how many edges are taken"),
        ("kind", pa.string(), "faithfulness (nothing else is kept) or completeness (they are removed)"),
        (measure, pa.float32(), f"{what} at the last traced token, mean over the prompts"),
        ("low", pa.float32(), "lower end of the 95 % bootstrap interval of that mean, over the prompts"),
        ("high", pa.float32(), "upper end of it"),
        (
            "value",
            pa.float32(),
            "share of the way from the run without signals to the clean run; null where the divisor, clean - nothing, "
            f"is not above {LEAST_ERRORS} of its bootstrap standard errors",
        ),
        ("why", pa.string(), "why there is no value; null where there is one"),
    )
    for measure, what in zip(
        MEASURES, ("logit[answer] - logit[distractor]", "the answer's log-probability, in nats,"), strict=True
    )
)
AGREEMENT, AGREEMENT_LOG_PROBABILITY = (
    described(
        ("edge", pa.string(), "WRITER:READER@ROLE/SIDE"),
        ("traced", pa.float32(), "weight a prompt: the sum over the edge's occurrences, over all prompts"),
        ("attribution", pa.float32(), f"attribution patching: minus the slope of {what} by the amount removed"),
        ("path_patching", pa.float32(), f"mean drop of {what} without the edge"),
    )
    for what in ("the logit difference", "the answer's log-probability")
)
OUTPUT_HEADS = described(
    ("layer", pa.int32(), "layer of the head"),
    ("head", pa.int32(), "head within its layer"),
    ("direct", pa.float32(), "mean direct effect on the logit difference, in logits (METHOD.md, section 11)"),
    ("chosen", pa.float32(), "share of the prompts in which it is a root head"),
    ("ablation", pa.float32(), "mean drop of the logit difference with its output at its mean, in logits"),
    ("ablation_log_probability", pa.float32(), "the same of the answer's log-probability, in nats"),
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
        [measured.divisor(measure).why] * len(orders),
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
    columns = [names, *map(defined, (traced, attribution[measure], drop))]
    return _table(columns, (AGREEMENT, AGREEMENT_LOG_PROBABILITY)[measure])


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
