"""What the measurements come to: areas, rank correlations, overlaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.faithfulness.agreement import correlations, spearman
from svdtrace.faithfulness.clean import DirectEffects
from svdtrace.faithfulness.curves import KINDS, RANDOM, TRACED, area, recovered
from svdtrace.faithfulness.editing import MEASURES, SUFFIXES
from svdtrace.faithfulness.measured import CLEAN, NOTHING, Measured
from svdtrace.faithfulness.output_heads import overlap
from svdtrace.statistics import bootstrap_interval


def summary(measured: Measured, agreement: pa.Table, measure: int) -> dict[str, Any]:
    """The manifest's numbers by one measure: runs at the ends of the curves, divisor, areas, rank correlations.

    Args:
        agreement: the table of this name, by this measure.
    """
    ends = {name: values[measure] for name, values in measured.ends.items()}
    divisor = measured.divisor(measure)
    columns = [agreement[name].to_numpy() for name in ("traced", "attribution", "path_patching")]
    return {
        MEASURES[measure]: {name: _interval(values) for name, values in ends.items()},
        "divisor": {
            "mean": _number(divisor.mean),
            "standard_error": _number(divisor.error),
            "in_standard_errors": _number(divisor.in_errors) if math.isfinite(divisor.in_errors) else None,
            "why": divisor.why,
        },
        "value_of_all_candidates": {
            kind: _number(recovered(ends[end], ends[CLEAN], ends[NOTHING]).mean())
            for kind, end in zip(KINDS, ("all_candidates_kept", "all_candidates_removed"), strict=True)
        },
        "areas": {kind: _areas(measured, measure, place) for place, kind in enumerate(KINDS)},
        "rank_correlations": {"edges": agreement.num_rows} | correlations(*columns),
    }


def default_measure(measured: Measured) -> str:
    """The measure whose divisor is largest in its standard errors; of equal ones the first."""
    return max(MEASURES, key=lambda name: measured.divisor(MEASURES.index(name)).in_errors)


def heads_summary(direct: DirectEffects, drop: np.ndarray) -> dict[str, Any]:
    """How the heads that write the answer compare with those that ablation finds.

    Args:
        drop: of each measure without a head, [prompt layer head measure].
    """
    n_prompts, n_heads = len(drop), math.prod(drop.shape[1:3])
    chosen = direct.chosen.reshape(n_prompts, n_heads)
    effect = direct.effect.reshape(n_prompts, n_heads)
    found: dict[str, Any] = {
        "root_heads_a_prompt": _number(chosen.sum(axis=1).mean()),
        "overlap_by_chance": _number(chosen.sum(axis=1).mean() / n_heads),
    }
    for place, after in enumerate(SUFFIXES):
        ablation = drop[..., place].reshape(n_prompts, n_heads)
        shared = _interval(overlap(chosen, ablation))
        found |= {
            f"rank_correlation{after}": spearman(effect.mean(axis=0), ablation.mean(axis=0)),
            f"overlap{after}": shared["mean"],
            f"overlap{after}_low": shared["low"],
            f"overlap{after}_high": shared["high"],
        }
    return found


def _areas(measured: Measured, measure: int, kind: int) -> dict[str, Any]:
    """Areas under one kind of curve, and the traced one less the others, prompt by prompt.

    Intervals are by bootstrap over prompts, the means of the clean run and of the run without signals held.
    """
    by_name: dict[str, list[np.ndarray]] = {}
    values, used = measured.recovered(measure), measured.of_measure(measure) & (measured.sets.kind == kind)
    for place, order in enumerate(measured.orders):
        rows = used & (measured.sets.order == place)
        if rows.any():
            by_name.setdefault(order.name, []).append(area(values[rows], measured.sets.size[rows]))
    mean = {name: np.mean(areas, axis=0) for name, areas in by_name.items()}
    against = {f"{TRACED}_less_{name}": mean[TRACED] - each for name, each in mean.items() if name != TRACED}
    found = {name: _interval(each) for name, each in (mean | against).items()}
    if RANDOM in by_name:
        found[RANDOM]["seeds"] = [_number(each.mean()) for each in by_name[RANDOM]]
    return found


def _interval(values: np.ndarray) -> dict[str, Any]:
    """Mean and interval; NaN are left out."""
    low, high = bootstrap_interval(values)
    known = values[~np.isnan(values)]
    return {"mean": _number(known.mean() if len(known) else math.nan), "low": _number(low), "high": _number(high)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
