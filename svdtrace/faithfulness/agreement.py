"""Whether the traced weight, attribution patching and path patching rank edges alike."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def ranks(values: Float[np.ndarray, " sample"]) -> Float[np.ndarray, " sample"]:
    """Each value's rank from 1, the mean rank for equal ones."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place.reshape(-1)]


def spearman(a: Float[np.ndarray, " sample"], b: Float[np.ndarray, " sample"]) -> float | None:
    """Spearman's rank correlation: Pearson's of the ranks; None for fewer than two values, or all equal ones."""
    if len(a) < 2:
        return None
    x, y = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    size = np.sqrt(np.sum(x**2) * np.sum(y**2))
    return float(np.clip(np.sum(x * y) / size, -1, 1)) if size > 0 else None


def evenly(count: int, most: int) -> Int[np.ndarray, " chosen"]:
    """At most `most` of the places 0 … count − 1, evenly spaced, the first and the last among them."""
    return np.unique(np.rint(np.linspace(0, count - 1, min(count, most))).astype(int)) if count else np.zeros(0, int)


def correlations(
    traced: Float[np.ndarray, " edge"], attribution: Float[np.ndarray, " edge"], patching: Float[np.ndarray, " edge"]
) -> dict[str, float | None]:
    """Spearman's correlation of each pair, and of the traced weight with the sizes of the effects.

    A traced weight says how much an edge steers attention, whether that helps the answer or harms it; so its
    correlation with the effects' sizes stands beside that with the effects.
    """
    return {
        "traced_attribution": spearman(traced, attribution),
        "traced_path_patching": spearman(traced, patching),
        "attribution_path_patching": spearman(attribution, patching),
        "traced_size_of_attribution": spearman(traced, np.abs(attribution)),
        "traced_size_of_path_patching": spearman(traced, np.abs(patching)),
    }
