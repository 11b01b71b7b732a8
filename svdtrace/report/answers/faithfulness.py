"""What the page draws of `svdtrace circuit`: how much of the output a circuit carries, and whether patching agrees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from svdtrace.report.answers.columns import columns, largest
from svdtrace.report.answers.folders import Result

EDGES = 600
HEADS = 400
MEASURES = {"logit_difference": "", "log_probability": "_log_probability"}
"""What is measured, and what the names of its tables end in."""


def faithfulness_json(result: Result) -> tuple[dict[str, Any], list[str]]:
    """The data of the section, and sentences on what it leaves out.

    Args:
        result: of `svdtrace circuit`.
    """
    manifest, heads = result.manifest, result.tables["output_heads"]
    kept = largest(np.abs(heads["ablation"].to_numpy().astype(float)), HEADS)
    other = manifest.get("log_probability", {})
    numbers = {
        "logit_difference": {**manifest, "runs": manifest.get("logit_difference")},
        "log_probability": other if isinstance(other, Mapping) else {},
    }
    data = {
        "measures": {name: _measure(result, end, numbers[name]) for name, end in MEASURES.items()},
        "default": manifest.get("default_measure", "logit_difference"),
        "heads": columns(
            heads.take(kept), ("layer", "head", "direct", "chosen", "ablation", "ablation_log_probability")
        ),
        "output_heads": manifest.get("output_heads", {}),
        "counts": manifest.get("counts", {}),
        "writers": manifest.get("trace", {}).get("writers"),
        "prompts": manifest.get("prompts", {}).get("used"),
    }
    more = max(0, result.tables["agreement"].num_rows - EDGES)
    left_out = [f"Of the agreement, the {more:,} edges with the smallest effects."] if more else []
    return data, left_out


def _measure(result: Result, end: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    agreement = result.tables[f"agreement{end}"]
    edges = largest(np.abs(agreement["path_patching"].to_numpy().astype(float)), EDGES)
    return {
        "curves": columns(result.tables[f"faithfulness{end}"], ("order", "seed", "edges", "kind", "value")),
        "agreement": columns(agreement.take(edges), ("edge", "traced", "attribution", "path_patching")),
        **{name: numbers.get(name) or {} for name in ("runs", "divisor", "areas", "rank_correlations")},
    }
