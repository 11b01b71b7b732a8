"""What a trace says of chance and stability (METHOD.md, sections 12 and 13), as the page draws it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.report.connections import Connections
from svdtrace.report.numbers import all_rounded, rounded

STABILITY = "stability"
PROBABILITIES = ("p_slices", "p_bases", "p_prompts", "q_value")


def evidence(edges: pa.Table, linked: Connections, kept: int) -> dict[str, list[float | int | None]]:
    """Optional columns of `edges.parquet` by connection; a column that the trace lacks is left out.

    Stability is the mean over a connection's edges. The probabilities are the same for all of them: one of each.

    Args:
        edges: `edges.parquet`.
        linked: its connections.
        kept: how many of them, the first ones, the page shows.
    """
    found = {}
    for name in (STABILITY, *PROBABILITIES):
        if name not in edges.column_names:
            continue
        value = edges[name].to_numpy().astype(float)
        defined = ~np.isnan(value)
        group = linked.of_row[defined]
        if name == STABILITY:
            sums, counts = (np.bincount(group, weights, len(linked)) for weights in (value[defined], None))
            by_connection = np.divide(sums, counts, out=np.full(len(linked), np.nan), where=counts > 0)
        else:
            by_connection = np.full(len(linked), np.nan)
            np.fmax.at(by_connection, group, value[defined])
        found[name] = all_rounded(by_connection[:kept], 3)
    return found


def chance_json(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many connections each null explains, and |S| beside that of random bases; None for a trace without nulls.

    Args:
        manifest: of a trace.
    """
    chance = manifest.get("chance")
    if not isinstance(chance, Mapping):
        return None
    whole = ("nulls", "fdr", "candidates", "edges", "surviving", "smallest_q", "prompts_without_partner")
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


def _shares(counts: list[float]) -> list[float | int | None]:
    return all_rounded(np.asarray(counts, float) / max(1.0, float(np.sum(counts))))
