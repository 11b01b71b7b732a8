"""The path weights of relative attention against their laws (METHOD.md, sections 14.1 and 14.9)."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import svdtrace
from svdtrace.errors import SettingError
from svdtrace.method.relative_bounds import contribution_bound, turning_error

N_KEYS = 7
EPS = np.finfo(np.float64).eps


def rows(seed: int, spread: float, many: int = 6) -> np.ndarray:
    """Rows of scores with a range, [row, key]: flat ones, peaked ones, ties."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(many, N_KEYS))
    scores[0] = 0
    scores[0, 2] = 1
    scores[1] = np.round(scores[1])
    scores -= scores.min(-1, keepdims=True)
    return scores / scores.max(-1, keepdims=True) * spread


def gauss_bound(range_scores: float, range_row: float, width: float, nodes: int = 16) -> float:
    """Section 14.9's bound of a panel's error: the path over a panel of that width sees scores of range R·width."""
    y = 4 * math.pi / (3 * range_scores * width)
    rho = y + math.sqrt(1 + y * y)
    return width * 6.4 * range_row * rho ** (-2 * (nodes - 1)) / (1 - rho**-2)


def rule_bound(range_scores: float, range_row: float) -> float:
    """Of all five panels, and the rounding of 80 nodes."""
    widths = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    return sum(gauss_bound(range_scores, range_row, width) for width in widths) + 80 * EPS * (1 + range_scores)


@given(seed=st.integers(0, 2**16), spread=st.sampled_from([0.1, 3.0, 20.0, 80.0]), j=st.integers(0, N_KEYS - 1))
@settings(max_examples=8, deadline=None)
def test_laws_of_path_weights(seed: int, spread: float, j: int) -> None:
    """Catches a wrong node, panel or sign: M against a finer rule, its signs and sums, and completeness."""
    scores = rows(seed, spread)
    found = svdtrace.relative_weights(scores, j)
    weights = np.asarray(found.weights)
    assert weights.dtype == np.float64
    for row, mine, error in zip(scores, weights, np.asarray(found.error), strict=True):
        assert np.abs(mine - oracle.path_weights(row, j)).max() <= rule_bound(spread, 1.0)
        assert abs(mine.sum()) <= N_KEYS * EPS
        others = np.delete(mine, j)
        assert mine[j] > 0 >= others.max()
        assert np.abs(mine).sum() == pytest.approx(2 * mine[j], abs=N_KEYS * EPS)
        assert 2 * mine[j] <= 0.5 + N_KEYS * EPS
        pattern = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        assert abs(mine @ row - (pattern[j] - 1 / N_KEYS)) <= rule_bound(spread, spread)
        assert error <= rule_bound(spread, spread)
        part = np.random.default_rng(seed).normal(size=N_KEYS)
        assert abs(mine @ part) <= mine[j] * np.ptp(part) + 4 * EPS
        assert abs(mine @ (part + 1e6) - mine @ part) <= 1e6 * N_KEYS * EPS


def test_steep_rows_are_within_the_bound_and_flagged_by_their_error() -> None:
    """At a range of 160 the rule is off by what section 14.9 says at most, and the error says by how much."""
    scores = rows(5, 160.0)
    for j in (1, 4):
        found = svdtrace.relative_weights(scores, j)
        assert np.max(found.error) <= rule_bound(160.0, 160.0)
        exact = np.stack([oracle.path_weights(row, j, panels=200) for row in scores])
        assert np.abs(np.asarray(found.weights) - exact).max() <= rule_bound(160.0, 1.0)


def test_scores_without_some_keys() -> None:
    """Catches a masked key that counts: -inf stands for no key, whatever its place."""
    scores = rows(2, 9.0)
    masked = np.insert(scores, [0, 3, N_KEYS], -np.inf, axis=-1)
    whole, part = svdtrace.relative_weights(scores, 4), svdtrace.relative_weights(masked, 6)
    kept = np.isfinite(masked[0])
    # Sums of as many numbers in another order: 80 nodes, and the keys of each.
    within = (80 + masked.shape[1]) * np.finfo(float).eps
    assert np.abs(np.asarray(part.weights)[:, kept] - np.asarray(whole.weights)).max() <= within
    assert not np.asarray(part.weights)[:, ~kept].any()
    assert np.abs(np.asarray(part.error) - np.asarray(whole.error)).max() <= within
    assert svdtrace.relative_weights([1.0, 0.0], 0).weights.dtype == np.float32
    several = svdtrace.relative_weights(scores, np.arange(len(scores)))
    assert np.abs(several.weights[3] - svdtrace.relative_weights(scores[3], 3).weights).max() <= within


def test_vectors_that_may_stand_anywhere_bound_nothing() -> None:
    """Catches an error that stops at 1, one of vectors outside S, and an endless error of nothing that is no number."""
    nearness = jnp.asarray([[0.25, 3.0, 9.0], [0.5, jnp.inf, 0.0]])
    error = turning_error(nearness, jnp.asarray([[True, True, False], [True, True, False]]))
    assert np.asarray(error) == pytest.approx([3 + 5e-5, np.inf])
    widest = jnp.asarray([4.0, 0.0])
    for amount, expected in (([0.5, 0.5], [1.5 + 2.5e-5 + 0.4, np.inf]), ([0.0, 0.0], [0.4, 0])):
        found = contribution_bound(jnp.asarray(amount), widest, error, jnp.full(2, 0.1))
        assert np.asarray(found) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scores", "j", "said"),
    [
        (1.0, 0, "give rows"),
        ([1.0, math.nan], 0, "not finite"),
        ([1.0, math.inf], 0, "not finite"),
        ([1.0, 2.0], 2, "from 0 to 1"),
        ([1.0, 2.0], 0.5, "from 0 to 1"),
        ([-math.inf, 2.0], 0, "is there"),
        ([[1.0, 2.0]], [0, 1], "one for all rows"),
    ],
)
def test_what_cannot_be_asked(scores: object, j: object, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        svdtrace.relative_weights(scores, j)
