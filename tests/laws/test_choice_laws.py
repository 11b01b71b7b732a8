"""What holds of slices and edges whatever the numbers: more is asked for, more is chosen."""

from __future__ import annotations

import jax
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from laws.examples import seeds
from svdtrace.method.edges import choose_edges
from svdtrace.method.slices import choose_slices

ROWS, VALUES = 32, 8
many = settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
# Whole numbers add up without rounding, and they tie often.
numbers = seeds.map(lambda seed: np.random.default_rng(seed).integers(-6, 7, (ROWS, VALUES)).astype(np.float32))
shares = st.tuples(*[st.sampled_from([0.125, 0.25, 0.5, 0.625, 0.75, 1.0])] * 2).map(sorted)
slices_of = jax.jit(choose_slices)
edges_of = jax.jit(lambda weight, share: choose_edges(weight, weight[:, 0] * 0, share).chosen)


@many
@given(products=numbers, taus=shares)
def test_slices_grow_with_tau(products: np.ndarray, taus: list[float]) -> None:
    """Catches a cut that is not a prefix of one order of the products."""
    small, large = (slices_of(products, np.zeros_like(products), np.float32(tau)) for tau in taus)
    assert np.all(np.asarray(small.members) <= np.asarray(large.members))
    assert np.array_equal(small.total, products.sum(axis=-1))


@many
@given(products=numbers)
def test_whole_slices_hold_products_of_the_totals_sign_alone(products: np.ndarray) -> None:
    """Catches an overshoot that is missed: at τ = 1 the sum exceeds the total before a product against it comes."""
    slices = slices_of(products, np.zeros_like(products), np.float32(1))
    sign = np.sign(products.sum(axis=-1, keepdims=True))
    assert np.all((products * sign > 0)[np.asarray(slices.members)])
    assert np.array_equal(np.asarray(slices.members).any(axis=-1), sign[:, 0] != 0)


@many
@given(weight=numbers, coverages=shares)
def test_edges_grow_with_coverage(weight: np.ndarray, coverages: list[float]) -> None:
    """Catches a cut that passes over a writer as large as one it takes; where the total is positive."""
    small, large = (np.asarray(edges_of(weight, np.float32(share))) for share in coverages)
    positive = weight.sum(axis=-1) > 0
    assert np.all((small <= large)[positive])
    assert np.all(small[positive].any(axis=-1))
    for row, chosen in zip(weight, small, strict=True):
        if chosen.any():
            assert np.array_equal(chosen, row >= row[chosen].min())
