"""Blocks of firings: what is worked on, and how many at a time."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svdtrace.attribute import block_by_block


@pytest.mark.parametrize("at_once", [1, 2, 4])
@pytest.mark.parametrize("filled", [[], [0], [0, 1, 2], [0, 5], [7]])
def test_every_filled_block_is_worked_on(at_once: int, filled: list[int]) -> None:
    """Catches a last block left out, and blocks put in another's place."""
    marked = np.isin(np.arange(8), filled)
    values = jnp.arange(1.0, 25.0).reshape(8, 3)
    worked = jax.jit(
        lambda blocks, marked: block_by_block(lambda part: (part[0] * part[1][:, None],), blocks, marked, at_once)
    )
    (found,) = worked((values, jnp.arange(8.0)), jnp.asarray(marked))
    expected = np.asarray(values) * np.arange(8)[:, None]
    assert np.array_equal(np.asarray(found)[marked], expected[marked])


def test_empty_blocks_cost_nothing() -> None:
    """Catches a loop over all blocks: beyond the last filled one there are zeros."""
    marked = jnp.asarray([True, True, False, False])
    found = block_by_block(lambda part: part + 1.0, jnp.ones((4, 2)), marked, 1)
    assert found.tolist() == [[2, 2], [2, 2], [0, 0], [0, 0]]
