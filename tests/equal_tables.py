"""Two runs' tables held against each other: equal, but for rounding and for what lies within it of a threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

PLACE = ("prompt", "layer", "head", "dest", "src")
# Rounding of a float32 forward pass and trace, relative to the largest value of a column: METHOD.md, section 4.
BOUND = 5e-5


@dataclass(frozen=True)
class Differences:
    """How many pairs fire in one run alone, firings differ in their slice, edges are in one run alone."""

    pairs: int
    firings: int
    edges: int


def compare(one: Any, other: Any, threshold: float) -> Differences:
    """Compare two traces; what differs must be near a tie, or a pattern near its threshold.

    Args:
        one, other: traces of the same prompts.
        threshold: of the firings.
    """
    firings = [_rows(each.firings, PLACE) for each in (one, other)]
    apart = set(firings[0]) ^ set(firings[1])
    for place in apart:
        row = firings[0].get(place) or firings[1][place]
        assert abs(row["pattern"] - threshold) <= BOUND or abs(row["score"]) <= BOUND * _largest(one.firings, "score")
    both = set(firings[0]) & set(firings[1])
    unequal = {place for place in both if firings[0][place]["slice"] != firings[1][place]["slice"]}
    assert all(firings[0][place]["near_tie"] for place in unequal), "a slice differs, but is near no tie"
    _close(firings, both, ("pattern", "score", "total"))
    edges = [_rows(each.edges, (*PLACE, "side", "writer")) for each in (one, other)]
    lost = {key for key in set(edges[0]) ^ set(edges[1]) if key[:5] in both - unequal}
    assert all((edges[0].get(key) or edges[1][key])["near_tie"] for key in lost), "an edge differs, but is near no tie"
    same = {key for key in set(edges[0]) & set(edges[1]) if key[:5] not in unequal}
    _close(edges, same, ("weight",))
    return Differences(len(apart), len(unequal), len(lost))


def _rows(table: pa.Table, key: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {tuple(row[name] for name in key): row for row in table.to_pylist()}


def _largest(table: pa.Table, column: str) -> float:
    values = table[column].to_numpy()
    return float(np.max(np.abs(values))) if len(values) else 0.0


def _close(runs: list[dict[Any, dict[str, Any]]], keys: set[Any], columns: tuple[str, ...]) -> None:
    for column in columns:
        one, other = (np.asarray([run[key][column] for key in keys], float) for run in runs)
        largest = np.max(np.abs(one), initial=0.0)
        assert np.max(np.abs(one - other), initial=0.0) <= BOUND * largest, column
