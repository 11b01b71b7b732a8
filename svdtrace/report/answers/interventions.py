"""What the page draws of `svdtrace intervene`: effects of edits beside their controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.report.answers.columns import columns, largest
from svdtrace.report.answers.folders import Result
from svdtrace.results.columns import meaning

SETS = 250
NAMED = 6
"""Edges of a set that are named; more are counted."""
EFFECTS = ("logit_difference", "score", "pattern", "kl")
NUMBERS = (
    *(f"{name}{end}" for name in EFFECTS for end in ("", "_low", "_high")),
    *("norm_ratio", "cosine", "excess", "excess_low", "excess_high", "q_value"),
)
SHOWN = ("where", "direction", "control", "prompts", "seeds", *NUMBERS, "exceeds")


def interventions_json(result: Result) -> tuple[dict[str, Any], list[str]]:
    """The data of the section, and sentences on what it leaves out.

    Args:
        result: of `svdtrace intervene`.
    """
    table = result.tables["summary"]
    names = table["edges"].combine_chunks().dictionary_encode()
    sets, place = names.dictionary.to_pylist(), np.asarray(names.indices)
    effect = np.abs(np.nan_to_num(table["logit_difference"].to_numpy().astype(float)))
    strongest = np.full(len(sets), -1.0)
    np.maximum.at(strongest, place, np.where(table["control"].to_numpy() == "none", effect, -1))
    kept = largest(strongest, SETS)
    number = np.full(len(sets), -1)
    number[kept] = np.arange(len(kept))
    rows = number[place] >= 0
    shown = table.filter(pa.array(rows))
    config = result.manifest.get("config", {})
    data = {
        "sets": [_short(sets[each]) for each in kept],
        "rows": {"set": number[place][rows].tolist(), **columns(shown, SHOWN, 3)},
        "method": config.get("method"),
        "chance": meaning(table.schema.field("exceeds")),
        "prompts": result.manifest.get("prompts", {}).get("count"),
    }
    more = len(sets) - len(kept)
    left_out = [f"Of the interventions, the {more:,} sets of edges that change the output least."] if more else []
    return data, left_out


def _short(name: str) -> str:
    edges = name.split(",")
    return name if len(edges) <= NAMED else f"{', '.join(edges[:2])} and {len(edges) - 2} more"
