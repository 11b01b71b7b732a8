"""What a trace says of chance and stability (METHOD.md, sections 12 and 13), as the page draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from svdtrace.report.numbers import all_rounded, rounded
from svdtrace.results.in_parts import Tables, columns

STABILITY = "stability"
PROBABILITIES = ("p_slices", "p_bases", "p_prompts", "q_value")


class EvidenceCount:
    """Optional columns of `edges.parquet` by connection, part by part.

    Stability is the mean over a connection's edges. The probabilities are the same for all of them: one of each.

    Args:
        kept: how many of the connections, the first ones, the page shows.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._stable, self._counts = np.zeros(kept), np.zeros(kept, int)
        self._values = {name: np.full(kept, np.nan) for name in PROBABILITIES}
        self._there: set[str] = set()

    def add(self, part: Tables, connection: Int[np.ndarray, " row"]) -> None:
        """See `svdtrace.pictures.connections.EdgeCount`."""
        edges = columns(part, "edges", (STABILITY, *PROBABILITIES))
        self._there |= set(edges.column_names)
        for name in edges.column_names:
            value = edges[name].to_numpy().astype(float)
            shown = ~np.isnan(value) & (connection < self._kept)
            if name == STABILITY:
                np.add.at(self._stable, connection[shown], value[shown])
                self._counts += np.bincount(connection[shown], minlength=self._kept)
            else:
                np.fmax.at(self._values[name], connection[shown], value[shown])

    def json(self) -> dict[str, list[float | int | None]]:
        """What the page draws; a column that the trace lacks is left out."""
        nothing = np.full(self._kept, np.nan)
        stability = np.divide(self._stable, self._counts, out=nothing, where=self._counts > 0)
        found = {STABILITY: stability, **self._values}
        return {name: all_rounded(values, 3) for name, values in found.items() if name in self._there}


def chance_json(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many connections stand out from each null, |S| beside that of random bases; None for a trace without nulls.

    Args:
        manifest: of a trace.
    """
    chance = manifest.get("chance")
    if not isinstance(chance, Mapping):
        return None
    whole = ("nulls", "fdr", "candidates", "edges", "surviving", "smallest_q", "prompts_without_partner")
    whole += ("beat_all", "nulls_needed")
    nulls = {
        name: {each: counts.get(each) for each in ("surviving", "explained", "untested")}
        for name, counts in chance.get("by_null", {}).items()
    }
    return {**{name: chance.get(name) for name in whole}, "by_null": nulls, "bases": _bases(chance.get("bases", {}))}


def stability_json(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """In what share of reruns the edges are, rerun by rerun; None for a trace without reruns.

    Args:
        manifest: of a trace.
    """
    stability = manifest.get(STABILITY)
    if not isinstance(stability, Mapping):
        return None
    return {name: stability.get(name) for name in ("edges_in", "mean", "in_all")}


def _bases(bases: Mapping[str, Any]) -> dict[str, Any] | None:
    if bases.get("mean_slice") is None:
        return None
    numbers = ("firings", "mean_slice", "random_mean_slice", "random_lowest", "random_highest", "p")
    histograms = {name: _shares(bases.get(name, [])) for name in ("histogram", "random_histogram")}
    return {**{name: rounded(bases.get(name)) for name in numbers}, **histograms}


def _shares(counts: list[int] | list[float]) -> list[float | int | None]:
    return all_rounded(np.asarray(counts, float) / max(1.0, float(np.sum(counts))))
