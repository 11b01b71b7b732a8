"""Blocks of firings: which are worked on, and with which head's values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from svdtrace.tracing.loops import head_by_head

OF_HEAD = jnp.asarray([1.0, 10.0, 100.0])


@jax.jit
def worked(blocks: jax.Array, head: jax.Array, filled: jax.Array) -> jax.Array:
    return head_by_head(lambda head: OF_HEAD[head], lambda own, part: (part * own,), blocks, head, filled)[0]


@pytest.mark.parametrize("heads", [[], [0], [2], [0, 0, 0], [0, 1, 2], [0, 0, 2, 2, 2], [1, 1, 2], [0] * 4 + [2] * 4])
def test_every_filled_block_is_worked_on_with_its_head(heads: list[int]) -> None:
    """Catches a last block left out, another head's values, and a loop over what is empty."""
    blocks = jnp.arange(1.0, 25.0).reshape(8, 3)
    head, filled = np.zeros(8, np.int32), np.arange(8) < len(heads)
    head[: len(heads)] = heads
    expected = np.asarray(blocks) * np.where(filled, np.asarray(OF_HEAD)[head], 0)[:, None]
    assert np.array_equal(worked(blocks, jnp.asarray(head), jnp.asarray(filled)), expected)
