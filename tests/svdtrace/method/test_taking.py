"""Candidates taken out of a row of scores one after another: the pattern is that of what is left."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from svdtrace.method.taking import after_keys

EPS = float(np.finfo(np.float32).eps)


def test_scores_of_any_range_are_left_with_the_pattern_of_what_is_left() -> None:
    """Catches a rival that is lifted by more than float32 can be e to the power of, though it stays far below."""
    scores, src = np.asarray([0.0, -200.0, -3.0]), 0
    parts = np.asarray([[0.3, -99.0, -0.5], [0.2, -0.1, -0.1]])
    # What lowers the score at src or raises another key's; the largest first.
    values = np.abs(parts)
    order = np.argsort(-values.ravel(), kind="stable").astype(np.int32)
    wanted, left = [], scores.copy()
    for place in order:
        left[place % 3] -= parts.ravel()[place]
        shifted = np.exp(left - left.max())
        wanted.append(shifted[src] / shifted.sum())
    found = after_keys(
        jnp.asarray(scores, jnp.float32),
        jnp.asarray(parts, jnp.float32),
        jnp.asarray(values, jnp.float32),
        jnp.asarray(order),
        jnp.int32(src),
        jnp.ones(3, bool),
    )
    # Each score is off by an ulp of the largest number that it was made of.
    assert np.abs(np.asarray(found) - wanted).max() <= len(order) * EPS * 200
