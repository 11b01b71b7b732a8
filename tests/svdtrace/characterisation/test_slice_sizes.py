"""|S| by halving floats is |S| by definition."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracle import choose_slice

from svdtrace.characterisation.slice_sizes import slice_sizes

# Few different small whole numbers: ties and zeros abound, and float32 sums of them are exact.
PRODUCTS = arrays(np.float32, (5, 8), elements=st.integers(-6, 6).map(float))


@pytest.mark.whole
@settings(max_examples=60, deadline=None)
@given(PRODUCTS, st.sampled_from([0.5, 0.75, 1.0]))
def test_sizes_are_those_of_the_definition(products, tau):
    wanted = [len(choose_slice(row.astype(np.float64), np.zeros(8), tau).members) for row in products]
    assert np.asarray(slice_sizes(jnp.asarray(products), jnp.float32(tau))).tolist() == wanted


@settings(max_examples=25, deadline=None)
@given(arrays(np.float32, (5, 8), elements=st.floats(np.float32(1e-3), 8, width=32)))
@pytest.mark.full
def test_without_negative_products_rounding_leaves_none_out(products):
    for sign in (1, -1):
        assert np.all(np.asarray(slice_sizes(jnp.asarray(sign * products), jnp.float32(1.0))) == 8)
