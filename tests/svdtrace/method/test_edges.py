"""Edges worked out by hand (METHOD.md, section 6)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from svdtrace.method.contributions import contribute
from svdtrace.method.edges import choose_edges

NONE = -np.inf
compiled = jax.jit(choose_edges)


def edges(weight: list[float], coverage: float = 0.7, bound: float = 0.0) -> tuple[list[int], float, bool]:
    found = compiled(jnp.asarray(weight), jnp.asarray(bound), coverage)
    return np.nonzero(np.asarray(found.chosen))[0].tolist(), float(found.total), bool(found.near_tie)


@pytest.mark.parametrize(
    ("weight", "coverage", "expected", "total"),
    [
        ([1.0, 6.0, 3.0], 0.7, [1, 2], 10),
        ([1.0, 6.0, 3.0], 0.6, [1, 2], 10),  # 6 reaches the goal but does not exceed it
        ([1.0, 6.0, 3.0], 0.5, [1], 10),
        ([2.0, 6.0, 2.0, 2.0], 0.5, [1, 0, 2, 3], 12),  # all as large as the one at the cut
        ([6.0, 6.0, 1.0], 0.2, [0, 1], 13),
        ([4.0, 1.0], 1.0, [0, 1], 5),  # none exceeds: all that are positive
        ([4.0, 0.0], 1.0, [0], 4),
        ([4.0, -1.0], 1.0, [0], 3),
        ([1.0, -4.0], 0.7, [0], -3),  # a total below 0: the largest alone
        ([-1.0, -4.0], 0.7, [0], -5),
        ([2.0, -2.0], 0.7, [0], 0),
        ([0.0, 0.0], 0.7, [], 0),
        ([NONE, 3.0, NONE, 2.0], 1.0, [1, 3], 5),  # writers above the reader are none
        ([NONE, -3.0, NONE], 0.7, [], -3),  # -3 does not exceed -2.1, and nothing is positive
        ([NONE, NONE], 0.7, [], 0),
    ],
)
def test_by_hand(weight: list[float], coverage: float, expected: list[int], total: float) -> None:
    """Catches >= for >, equals at the cut left out, and writers that are not there."""
    chosen, sum_of_all, _ = edges(weight, coverage)
    assert chosen == sorted(expected)
    assert sum_of_all == total


@settings(max_examples=20, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**16), coverage=st.sampled_from([0.125, 0.5, 0.75, 1.0]))
def test_equals_a_loop(seed: int, coverage: float) -> None:
    """Catches a bisection that stops one value early or late, with ties, absent values and totals below 0."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-6, 9, (64, 7)).astype(np.float32) / 4
    weight[rng.random(weight.shape) < 0.15] = NONE
    chosen = np.asarray(compiled(jnp.asarray(weight), jnp.zeros(64), coverage).chosen)
    for values, mine in zip(weight.tolist(), chosen, strict=True):
        there = sorted((value for value in values if value > NONE), reverse=True)
        goal, running = coverage * sum(there), np.cumsum(there)
        beyond = [value for value, total in zip(there, running, strict=True) if total > goal]
        expected = [value >= beyond[0] if beyond else value > 0 for value in values]
        assert mine.tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [2.0**-100, 1.0, 2.0**100])
def test_the_cut_is_found_at_every_scale(dtype: type, scale: float) -> None:
    """Catches bits of the wrong width, and a search that does not reach the last of them."""
    with jax.enable_x64(True):
        weight = jnp.asarray(np.asarray([[1.0, 6.0, 3.0, np.nextafter(dtype(3.0), dtype(4.0))]], dtype) * dtype(scale))
        found = compiled(weight, jnp.zeros(1, dtype), np.asarray(0.65, dtype))
    assert found.chosen.tolist() == [[False, True, False, True]]


@pytest.mark.parametrize(
    ("weight", "bound", "near"),
    [
        ([6.0, 3.0, 1.0], 0.5, False),  # goal 7, sums 6 and 9
        ([6.0, 3.0, 1.0], 1.0, True),  # the sum before the cut
        ([5.0, 2.5, 0.0, 0.0], 0.0, False),
        ([5.0, 3.0, 1.0, 1.0], 0.8, True),  # the sum at the cut, two bounds in quadrature
        ([5.0, 3.0, 1.0, 1.0], 0.6, False),
        ([10.0, 4.0, 3.875], 0.0625, True),  # 4 and 3.875 could change places
        ([10.0, 4.0, 3.875], 0.05, False),
        ([5.0, 2.5, 2.5], 0.001, True),  # both are chosen, but rounding may part them
        ([0.0, 0.0], 1.0, False),
    ],
)
def test_ties_are_seen(weight: list[float], bound: float, near: bool) -> None:
    """Catches a tie at one of the two sums or between two writers that is not flagged."""
    assert edges(weight, bound=bound)[2] is near


def test_contributions() -> None:
    """Catches vectors outside S, and a value for a writer above the reader."""
    # [writer slot sv], one firing; the third writer stands above the reader.
    terms = jnp.asarray([[[1.0, 2.0, 100.0]], [[-3.0, 3.0, 0.0]], [[50.0, 50.0, 50.0]]])
    weight = contribute(terms, jnp.asarray([[2.0, -1.0, 0.0]]), jnp.asarray([True, True, False]))
    assert np.asarray(weight).tolist() == [[0.0, -9.0, NONE]]
