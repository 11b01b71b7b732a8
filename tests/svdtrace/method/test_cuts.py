"""The rule behind slices and edges against a loop over its definition."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from svdtrace.method.cuts import prefix_beyond, running_sums, value_at

ROWS, VALUES = 16, 6


@jax.jit
def cut(values: jax.Array, goal: jax.Array) -> tuple[jax.Array, ...]:
    sums = running_sums(values)
    places = [value_at(values, sums, jax.numpy.full(values.shape[:-1], place)) for place in range(-1, VALUES + 1)]
    return sums.place, sums.total, sums.last(), prefix_beyond(values, sums, goal), jax.numpy.stack(places)


@settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**16))
def test_equals_a_loop(seed: int) -> None:
    """Catches ties in another order, a cut one off, and an absent value that counts."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-5, 6, (ROWS, VALUES)).astype(np.float32)
    values[rng.random(values.shape) < 0.2] = -np.inf
    values[0] = -np.inf
    goal = rng.integers(-4, 12, ROWS).astype(np.float32)
    place, total, last, prefix, at = map(np.asarray, cut(values, goal))
    for row in range(ROWS):
        order = sorted(range(VALUES), key=lambda index: (-values[row, index], index))
        running, chosen = 0.0, None
        for rank, index in enumerate(order):
            running += values[row, index] if np.isfinite(values[row, index]) else 0
            assert place[row, index] == rank
            assert total[row, index] == running
            assert at[rank + 1, row] == values[row, index]
            if chosen is None and running > goal[row]:
                chosen = order[: rank + 1]
        assert last[row] == running
        expected = [index for index in order if values[row, index] > 0] if chosen is None else chosen
        assert sorted(np.nonzero(prefix[row])[0]) == sorted(expected)
    assert not at[0].any()
    assert not at[-1].any()


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 5), (2, 8), (3, 7)])
def test_the_sum_of_the_largest(count: int, expected: float) -> None:
    """Catches a sum over indices instead of places."""
    sums = running_sums(jax.numpy.asarray([3.0, -1.0, 5.0]))
    assert float(sums.at(jax.numpy.asarray(count))) == expected
