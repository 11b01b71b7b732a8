"""What a manifest says of chance: edges that each null explains, and slices in random bases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from svdtrace.nulls.candidates import Candidates

EVERY = "every"


def summary_of(
    found: Candidates, p: dict[str, np.ndarray], q: dict[str, np.ndarray], size: np.ndarray, fdr: float
) -> dict[str, Any]:
    """Counts of the candidates observed, and `bases`: |S| of singular vectors beside |S| of random bases.

    Args:
        p, q: by kind, as if there were no other null, and under `EVERY` those of all nulls together.
        size: firings by |S| in random bases [null layer head d_head+1].
    """
    counts = {kind: counts_of(p[kind], q[kind], fdr, len(size)) for kind in p}
    every = counts.pop(EVERY)
    return {
        "edges": len(found),
        "surviving": every["surviving"],
        "beat_all": every["beat_all"],
        "by_null": counts,
        "prompts_without_partner": found.left_out,
        "bases": bases(found.size, size),
    }


def nulls_for(candidates: int, beat_all: int, fdr: float) -> int | None:
    """The fewest nulls at which so many edges survive if they go on beating every draw; `None` where none does.

    The r-th smallest p is tried at candidates / r: `q = candidates / (r (1 + nulls)) ≤ fdr` (METHOD.md, section 12).
    """
    return math.ceil(candidates / (beat_all * fdr)) - 1 if beat_all else None


def counts_of(p: np.ndarray, q: np.ndarray, fdr: float, nulls: int) -> dict[str, int]:
    """Edges that survive, that the null explains, that it says nothing of, and that beat each of its draws."""
    tested = ~np.isnan(p)
    survive = int(np.sum(q <= fdr))
    return {
        "surviving": survive,
        "explained": int(tested.sum()) - survive,
        "untested": int((~tested).sum()),
        # p of an edge that k draws reach is (1 + k) / (1 + nulls).
        "beat_all": int(np.sum(p * (1 + nulls) < 1.5)),
    }


def bases(observed: np.ndarray, null: np.ndarray) -> dict[str, Any]:
    """Are singular vectors a special basis? |S| beside that of random ones.

    Args:
        observed: firings by |S| [layer head d_head+1]; null: the same in random bases [null layer head d_head+1].
    """
    numbers = np.arange(observed.shape[-1])
    firings = observed.sum()
    if not firings:
        return {"firings": 0}
    mean = float((observed * numbers).sum() / firings)
    means = (null * numbers).sum(axis=(1, 2, 3)) / firings
    heads = {}
    for layer, head in zip(*np.nonzero(observed.sum(axis=-1)), strict=True):
        many = observed[layer, head].sum()
        mine = (observed[layer, head] * numbers).sum() / many
        its = (null[:, layer, head] * numbers).sum(axis=-1) / many
        heads[f"{layer}.{head}"] = {
            "firings": int(many),
            "mean_slice": round(float(mine), 4),
            "random_mean_slice": round(float(its.mean()), 4),
            "p": _p(mine, its),
        }
    return {
        "firings": int(firings),
        "mean_slice": round(mean, 4),
        "random_mean_slice": round(float(means.mean()), 4),
        "random_lowest": round(float(means.min()), 4),
        "random_highest": round(float(means.max()), 4),
        "p": _p(mean, means),
        "histogram": observed.sum(axis=(0, 1)).tolist(),
        "random_histogram": null.sum(axis=(0, 1, 2)).tolist(),
        "heads": heads,
    }


def _p(observed: float, null: np.ndarray) -> float:
    """How often random bases need as few vectors as the singular ones."""
    return float((1 + np.sum(null <= observed)) / (1 + len(null)))
