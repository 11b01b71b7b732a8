"""Firings found against a loop over their definition (METHOD.md, section 3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from svdtrace.config import TraceConfig
from svdtrace.method.firings import (
    Candidates,
    FiringList,
    candidates_per_destination,
    eligible_pairs,
    find_candidates,
    fired,
    list_candidates,
)

LENGTH, LAST, TOKENS, HEADS = np.asarray([6, 4, 5, 0]), np.asarray([5, 3, 2, -1]), 6, 2


def attention(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and causal patterns [prompt head dest src] that often reach 0.5."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 3, (len(LENGTH), HEADS, TOKENS, TOKENS)).astype(np.float32)
    causal = np.tril(np.ones((TOKENS, TOKENS), bool))
    weight = np.where(causal, np.exp(score), 0)
    return np.where(causal, score, -np.inf).astype(np.float32), (weight / weight.sum(-1, keepdims=True)).astype(
        np.float32
    )


@pytest.mark.parametrize("skip_first", [True, False])
@pytest.mark.parametrize(("threshold", "score_min"), [(0.5, 0.0), (0.3, 1.0), (0.9, 0.0), (0.2, 0.0)])
def test_equals_a_loop(skip_first: bool, threshold: float, score_min: float) -> None:
    """Catches firings in padding, beyond the last traced token or at the first, and a pair lost where several fire."""
    score, pattern = attention(1)
    eligible = eligible_pairs(jnp.asarray(LENGTH), jnp.asarray(LAST), TOKENS, skip_first)
    count = candidates_per_destination(threshold, TOKENS)
    found = find_candidates(jnp.asarray(pattern), jnp.asarray(score), eligible, count)
    pairs = list_candidates(jax.tree.map(lambda each: each[None], found), threshold / 2)
    firings = fired(pairs, TraceConfig(threshold=threshold, score_min=score_min), first_layer=0)
    mine = list(zip(firings.prompt, firings.head, firings.dest, firings.src, strict=True))
    expected = [
        (prompt, head, dest, src)
        for prompt in range(len(LENGTH))
        for head in range(HEADS)
        for dest in range(min(LENGTH[prompt], LAST[prompt] + 1))
        for src in range(1 if skip_first else 0, dest + 1)
        if pattern[prompt, head, dest, src] >= np.float32(threshold) and score[prompt, head, dest, src] >= score_min
    ]
    assert mine == expected
    assert expected
    for row, (prompt, head, dest, src) in enumerate(expected):
        assert firings.pattern[row] == pattern[prompt, head, dest, src]
        assert firings.score[row] == score[prompt, head, dest, src]


@pytest.mark.parametrize(
    ("threshold", "n_tokens", "count"),
    [(0.5, 20, 2), (1.0, 20, 1), (0.51, 20, 1), (0.3, 20, 3), (0.001, 20, 20), (0.5, 1, 1)],
)
def test_how_many_can_reach_the_threshold(threshold: float, n_tokens: int, count: int) -> None:
    """Catches ⌈⌉ for ⌊⌋; at 0.5 two tokens can share a row evenly, and both fire."""
    assert candidates_per_destination(threshold, n_tokens) == count


def test_the_threshold_is_included_and_rows_are_sorted() -> None:
    """Catches > for ≥, rows of layer 0 in a trace, and rows in the order in which they were found."""
    shape = (3, 2, 1, 2, 2)
    pattern = np.full(shape, -1.0, np.float32)
    src = np.zeros(shape, np.int32)
    for layer, prompt, dest, candidate, at, strength in [
        (0, 0, 1, 0, 1, 0.9),
        (2, 0, 1, 0, 1, 0.5),
        (2, 0, 1, 1, 0, 0.5),
        (1, 1, 0, 0, 0, 0.7),
        (1, 0, 1, 0, 1, np.nextafter(np.float32(0.5), np.float32(0))),
    ]:
        pattern[layer, prompt, 0, dest, candidate] = strength
        src[layer, prompt, 0, dest, candidate] = at
    found = fired(list_candidates(Candidates(*map(jnp.asarray, (src, pattern, pattern))), 0.1), TraceConfig())
    rows = list(zip(found.prompt, found.layer, found.head, found.dest, found.src, strict=True))
    assert rows == [(0, 2, 0, 1, 0), (0, 2, 0, 1, 1), (1, 1, 0, 0, 0)]
    assert found.pattern.tolist() == [0.5, 0.5, np.float32(0.7)]


@given(st.lists(st.lists(st.tuples(*[st.integers(0, 3)] * 4), max_size=9), min_size=1, max_size=4))
def test_lists_of_layers_become_one_in_order(layers: list[list[tuple[int, ...]]]):
    """Catches a prompt's rows of another layer, rows that are lost, and lists of which one is empty."""

    def listed(layer: int, rows: list[tuple[int, ...]]) -> FiringList:
        prompt, head, dest, src = np.asarray(sorted(set(rows)), np.int32).reshape(-1, 4).T
        value = 1000.0 * layer + 100 * prompt + 10 * head + dest
        return FiringList(prompt, np.full_like(prompt, layer), head, dest, src, pattern=value, score=-value)

    parts = [listed(layer, rows) for layer, rows in enumerate(layers)]
    loose = FiringList.joined(parts)
    found, expected = FiringList.of_layers(parts), loose.take(loose.order)
    for name in ("prompt", "layer", "head", "dest", "src", "pattern", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
