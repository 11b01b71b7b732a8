"""Candidates taken out of a row of scores one after another: the pattern is that of what is left."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import oracle

from svdtrace.method.taking import after_keys, after_rows, falling, take_until

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


def test_what_is_taken_is_near_a_tie_where_the_oracle_says_so() -> None:
    """Catches bounds that do not grow with what was taken, and the pattern before the last candidate left out."""
    rng, n_rows, n_candidates, n_tokens, threshold = np.random.default_rng(5), 64, 6, 5, 0.4
    scores, src = rng.normal(size=(n_rows, n_tokens)), np.argmax(rng.normal(size=(n_rows, n_tokens)), axis=1)
    scores[np.arange(n_rows), src] += 3
    rows = rng.normal(size=(n_rows, n_candidates, n_tokens)) / 2
    values, bound = rng.normal(size=(n_rows, n_candidates)).round(1), 10.0 ** rng.uniform(-2, 0, n_rows)
    with jax.enable_x64(True):
        there, allowed = jnp.asarray(src, jnp.int32), jnp.ones(scores.shape, bool)
        given = jnp.asarray(scores), jnp.asarray(rows), falling(jnp.asarray(values)), there, allowed
        pattern = jnp.exp(given[0] - jax.nn.logsumexp(given[0], -1, keepdims=True))[np.arange(n_rows), src]
        after = after_rows(*given)
        found = take_until(jnp.asarray(values), after, pattern, jnp.full(n_rows, threshold), jnp.asarray(bound))
    flags = []
    for row in range(n_rows):
        head = SimpleNamespace(scores=scores[row], src=src[row], dest=n_tokens - 1, pattern=float(pattern[row]))
        its = [SimpleNamespace(value=value, row=part) for value, part in zip(values[row], rows[row], strict=True)]
        true = oracle.relative_choice(head, its, {"select": "until", "threshold": threshold}, bound[row])
        assert np.flatnonzero(found.chosen[row]).tolist() == true.candidates
        assert bool(found.near_tie[row]) == true.near_tie
        flags.append(true.near_tie)
    assert 10 < sum(flags) < n_rows - 10
