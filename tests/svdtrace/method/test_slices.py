"""Slices worked out by hand (METHOD.md, section 4)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svdtrace.method.slices import choose_slices, whole_rank

compiled = jax.jit(choose_slices)


def chosen(products: list[float], tau: float = 1.0, bounds: float | list[float] = 0.0) -> tuple[list[int], bool]:
    """S in the order of choice, and whether it is near a tie."""
    values = jnp.asarray(products)
    slices = compiled(values, jnp.broadcast_to(jnp.asarray(bounds), values.shape), tau)
    members = np.nonzero(np.asarray(slices.members))[0]
    return sorted(members.tolist(), key=lambda k: int(slices.place[k])), bool(slices.near_tie)


@pytest.mark.parametrize(
    ("products", "tau", "expected"),
    [
        ([1.0, 4.0, -3.0, 2.0], 1.0, [1, 3]),  # total 4; 4 does not exceed it, 6 does
        ([1.0, 4.0, -3.0, 2.0], 0.5, [1]),
        ([2.0, 1.0, 0.0], 1.0, [0, 1]),  # nothing exceeds the total: all that is positive
        ([2.0, 2.0, -1.0, 2.0], 0.375, [0]),  # of equals the lower k first
        ([2.0, 2.0, -1.0, 2.0], 0.625, [0, 1]),
        ([-1.0, -4.0, 3.0, -2.0], 1.0, [1, 3]),  # a pair that does not fire: the same with signs turned
        ([-2.0, -1.0, 0.0], 1.0, [0, 1]),
        ([3.0, -3.0], 1.0, []),  # total 0
        ([0.0, 0.0], 1.0, []),
        ([5.0], 1.0, [0]),
    ],
)
def test_by_hand(products: list[float], tau: float, expected: list[int]) -> None:
    """Catches >= for >, ties in another order, and signs that are not turned for negative totals."""
    assert chosen(products, tau)[0] == expected


@pytest.mark.parametrize(
    ("products", "tau", "bounds", "near"),
    [
        ([4.0, 2.0, 1.0], 0.5, 0.1, False),  # goal 3.5, sums 4 and 0 away from it
        ([4.0, 2.0, 1.0], 0.5, 0.5, True),  # the sum at |S| within its bound
        ([3.4, 3.6, 0.0], 0.5, 0.11, True),  # goal 3.5, and 3.4 could stand first as well
        ([3.0, 1.5, 1.5], 0.5, 0.01, True),  # goal 3: the sum before the cut equals it
        ([4.0, 3.875, -5.0], 0.5, 0.0625, True),  # far from the goal, but 3.875 could stand first
        ([4.0, 3.875, -5.0], 0.5, 0.05, False),
        ([4.0, 2.0, 1.0], 1.0, 0.1, True),  # nothing exceeds; the last sum is the goal
        ([4.0, 0.05, -3.0], 0.9, 0.1, False),  # 0.05 is no member
        ([8.0, 0.05, -3.0, -3.0, -0.01], 0.2, [0.1, 0.1, 0.1, 0.1, 9.0], False),  # far from the cut bounds matter not
        ([2.0, 0.05, -0.04], 1.0, [0.001, 0.1, 0.0], True),  # a member that may be negative
    ],
)
def test_ties_are_seen(products: list[float], tau: float, bounds: float | list[float], near: bool) -> None:
    """Catches a tie at one of the two sums, at a sign or between two products, that is not flagged."""
    assert chosen(products, tau, bounds)[1] is near


def test_bounds_of_a_sum_add_in_quadrature() -> None:
    """Catches bounds added up plainly, and bounds of products that are not in the sum."""
    products = [5.0, 4.0, 3.0, -2.0]  # total 10; the running sums 9 and 12 are 1 and 2 away from it
    assert chosen(products, 1.0, [0.5, 0.5, 0.5, 4.0]) == ([0, 1, 2], False)
    assert chosen(products, 1.0, [0.7, 0.75, 0.5, 4.0])[1]


def test_the_whole_rank() -> None:
    """Catches vectors beyond the rank in the method `all`, and an order other than by product."""
    slices = whole_rank(jnp.asarray([1.0, 3.0, -2.0, 0.0]), jnp.asarray([True, True, True, False]))
    assert np.asarray(slices.members).tolist() == [True, True, True, False]
    assert np.asarray(slices.place)[:3].tolist() == [1, 0, 2]
    assert float(slices.total) == 2.0
    assert not bool(slices.near_tie)
