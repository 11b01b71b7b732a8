"""Statistics of results: intervals by bootstrap, false-discovery rates, the area under the ROC curve."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

DRAWS = 2000
LEVEL = 0.95


def bootstrap_interval(
    values: Float[np.ndarray, " sample"], seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> tuple[float, float]:
    """The percentile bootstrap's interval of a mean (Efron & Tibshirani 1993, section 13.3).

    Args:
        values: independent samples; NaN are left out.
        seed: of the resampling.
        draws: how many resamples.
        level: coverage of the interval.

    Returns:
        Its ends; NaN where there are no values, both the value where there is one.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    # In pieces, so that memory does not grow with samples × draws.
    step = max(1, 4_000_000 // len(values))
    for start in range(0, draws, step):
        stop = min(draws, start + step)
        means[start:stop] = values[rng.integers(0, len(values), (stop - start, len(values)))].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def benjamini_hochberg(p: Float[np.ndarray, " test"]) -> Float[np.ndarray, " test"]:
    """Q values: the smallest false-discovery rate at which each test is a discovery (Benjamini & Hochberg 1995).

    Args:
        p: p-values in (0, 1]; NaN are no tests, and stay NaN.

    Returns:
        `q_(i) = min over j ≥ i of p_(j) n / j`, at most 1.
    """
    p = np.asarray(p, np.float64)
    q = np.full(p.shape, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return q


def roc_auc(values: Float[np.ndarray, " sample"], positive: Bool[np.ndarray, " sample"]) -> float:
    """The probability that a positive sample's value exceeds a negative one's, ties counted half (Mann & Whitney 1947).

    Returns:
        The area; NaN where one of the classes is empty.
    """
    values, positive = np.asarray(values, np.float64), np.asarray(positive, bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        return float("nan")
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))
