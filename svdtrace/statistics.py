"""Statistics of results: intervals by bootstrap, p-values, false-discovery rates, the area under the ROC curve."""

from __future__ import annotations

import math

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
    means = _resampled_means(values, seed, draws)
    if not len(means):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_error(values: Float[np.ndarray, " sample"], seed: int = 0, draws: int = DRAWS) -> float:
    """The bootstrap's standard error of a mean: the standard deviation of the means of resamples.

    Args:
        values, seed, draws: see `bootstrap_interval`.

    Returns:
        The error; NaN where there are fewer than two values, of which no error can be told.
    """
    means = _resampled_means(values, seed, draws)
    return float(means.std()) if np.count_nonzero(~np.isnan(values)) > 1 else float("nan")


def _resampled_means(values: Float[np.ndarray, " sample"], seed: int, draws: int) -> Float[np.ndarray, " draw"]:
    """Means of resamples of the values that are defined; nothing where none is."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return np.zeros(0)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    # In pieces, so that memory does not grow with samples × draws.
    step = max(1, 4_000_000 // len(values))
    for start in range(0, draws, step):
        stop = min(draws, start + step)
        means[start:stop] = values[rng.integers(0, len(values), (stop - start, len(values)))].mean(axis=1)
    return means


def mean_above_zero(values: Float[np.ndarray, " sample"]) -> float:
    """The p-value of Student's one-sided test that a mean is no larger than 0.

    Args:
        values: independent samples; NaN are left out. Few of them ask for more than a bootstrap does, which has no tail
            beyond its samples.

    Returns:
        P(T ≥ mean / (s / √n)); NaN for fewer than two values.
    """
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float("nan")
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    return student_tail(mean / error if error else math.copysign(math.inf, mean) if mean else 0.0, len(values) - 1)


def student_tail(t: float, degrees: int) -> float:
    """P(T ≥ t) for Student's T, by its finite series (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        t: any number.
        degrees: of freedom, 1 or more.
    """
    angle = math.atan(abs(t) / math.sqrt(degrees))
    odd = degrees % 2
    k = np.arange(1, (degrees - odd) // 2)
    terms = np.cumprod((2 * k - 1 + odd) / (2 * k + odd) * math.cos(angle) ** 2)
    series = math.sin(angle) * (1 + float(terms.sum()))
    if odd:
        series = 2 / math.pi * (angle + (math.cos(angle) * series if degrees > 1 else 0))
    outside = max(0.0, 1 - series) / 2
    return outside if t >= 0 else 1 - outside


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
