"""Intervals, rates and areas against their definitions, written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from svdtrace.statistics import (
    benjamini_hochberg,
    bootstrap_error,
    bootstrap_interval,
    mean_above_zero,
    roc_auc,
    student_tail,
)

P = arrays(np.float64, st.integers(0, 12), elements=st.sampled_from([0.001, 0.01, 0.02, 0.2, 0.5, 1.0, np.nan]))


@given(P, st.sampled_from([0.01, 0.05, 0.1, 0.3]))
def test_q_values_discover_what_the_step_up_procedure_does(p: np.ndarray, rate: float):
    tested = np.sort(p[~np.isnan(p)])
    largest = max(
        (each for rank, each in enumerate(tested, 1) if each <= rate * rank / len(tested) + 1e-12), default=-1
    )
    q = benjamini_hochberg(p)
    assert np.array_equal(np.isnan(q), np.isnan(p))
    assert np.array_equal(q <= rate + 1e-12, p <= largest)
    assert np.all(q[~np.isnan(p)] >= p[~np.isnan(p)])


def test_an_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(300):
        low, high = bootstrap_interval(rng.normal(2, 3, 60), seed=trial, draws=400)
        inside += low <= 2 <= high
    # 285 expected, standard deviation 3.8; the percentile interval is a little narrow at 60 samples.
    assert 265 <= inside <= 298


def test_an_interval_of_few_values():
    assert bootstrap_interval(np.array([3.0, np.nan])) == (3.0, 3.0)
    assert all(np.isnan(bootstrap_interval(np.array([np.nan]))))
    assert bootstrap_interval(np.arange(9.0), seed=1) == bootstrap_interval(np.arange(9.0), seed=1)
    assert bootstrap_interval(np.arange(9.0), seed=1) != bootstrap_interval(np.arange(9.0), seed=2)


def test_an_error_is_that_of_the_mean():
    values = np.random.default_rng(3).normal(5, 2, 50)
    # The bootstrap's own error at 2000 draws is 1 / sqrt(4000) of the value; five of these.
    assert bootstrap_error(np.append(values, np.nan)) == pytest.approx(values.std() / math.sqrt(50), rel=0.08)
    assert bootstrap_error(np.full(4, 2.5)) == 0
    assert math.isnan(bootstrap_error(np.array([1.0, np.nan])))
    assert math.isnan(bootstrap_error(np.zeros(0)))


@pytest.mark.parametrize(
    ("t", "degrees", "tail"),
    [
        # Of tables; T with one degree is Cauchy's, with two it has a closed form.
        (1.833113, 9, 0.05),
        (2.776445, 4, 0.025),
        (1.697261, 30, 0.05),
        (31.820516, 1, 0.01),
        (0.0, 7, 0.5),
        (3.0, 1, 0.5 - math.atan(3.0) / math.pi),
        (3.0, 2, 0.5 - 1.5 / math.sqrt(11)),
        (math.inf, 5, 0.0),
    ],
)
def test_the_tail_of_students_distribution(t: float, degrees: int, tail: float):
    assert student_tail(t, degrees) == pytest.approx(tail, abs=1e-7)
    assert student_tail(-t, degrees) == pytest.approx(1 - tail, abs=1e-7)


def test_a_mean_of_noise_is_rarely_above_zero_and_few_values_ask_for_more():
    rng = np.random.default_rng(1)
    found = np.array([mean_above_zero(rng.normal(size=3)) for _ in range(2000)])
    # 100 expected, standard deviation 9.7.
    assert 60 < np.count_nonzero(found <= 0.05) < 140
    assert mean_above_zero(np.array([1.0, 2.0, 4.0, np.nan])) == pytest.approx(student_tail(2.6457513, 2), abs=1e-7)
    assert (mean_above_zero(np.ones(3)), mean_above_zero(-np.ones(3)), mean_above_zero(np.zeros(3))) == (0, 1, 0.5)
    assert math.isnan(mean_above_zero(np.array([5.0])))


@given(
    arrays(np.float64, 9, elements=st.integers(0, 4).map(float)),
    arrays(np.bool_, 9, elements=st.booleans()),
)
def test_the_area_counts_pairs(values: np.ndarray, positive: np.ndarray):
    pairs = [(high > low) + 0.5 * (high == low) for high in values[positive] for low in values[~positive]]
    area = roc_auc(values, positive)
    assert np.isnan(area) if not pairs else area == pytest.approx(np.mean(pairs), abs=1e-12)
