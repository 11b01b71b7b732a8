"""What the page draws of `svdtrace circuit`: how much of the output a circuit carries, and whether patching agrees."""

from __future__ import annotations

from typing import Any

import numpy as np

from svdtrace.report.results.columns import columns, largest
from svdtrace.report.results.folders import Result

EDGES = 600
HEADS = 400
SUMMARY = ("logit_difference", "value_of_all_candidates", "areas", "rank_correlations", "output_heads")


def faithfulness_json(result: Result) -> tuple[dict[str, Any], list[str]]:
    """The data of the section, and sentences on what it leaves out.

    Args:
        result: of `svdtrace circuit`.
    """
    agreement, heads = result.tables["agreement"], result.tables["output_heads"]
    edges = largest(np.abs(agreement["path_patching"].to_numpy().astype(float)), EDGES)
    kept = largest(np.abs(heads["ablation"].to_numpy().astype(float)), HEADS)
    curve = ("order", "seed", "edges", "kind", "logit_difference", "low", "high", "value")
    manifest = result.manifest
    data = {
        "curves": columns(result.tables["faithfulness"], curve),
        "agreement": columns(agreement.take(edges), ("edge", "traced", "attribution", "path_patching")),
        "heads": columns(heads.take(kept), ("layer", "head", "direct", "chosen", "ablation")),
        "summary": {name: manifest.get(name) for name in SUMMARY},
        "counts": manifest.get("counts", {}),
        "writers": manifest.get("trace", {}).get("writers"),
        "prompts": manifest.get("prompts", {}).get("used"),
    }
    more = agreement.num_rows - len(edges)
    left_out = [f"Of the agreement, the {more:,} edges with the smallest effects."] if more else []
    return data, left_out
