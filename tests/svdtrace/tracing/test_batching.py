"""Length buckets and batches."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdtrace.prompts import Prompt
from svdtrace.tracing import batching
from svdtrace.tracing.batching import BUCKET_COST, MOST_BUCKETS, NONE, automatic_batch_size, batches, bucket_edges

LENGTHS = [5, 3, 7, 5, 2]


def prompts() -> list[Prompt]:
    return [
        Prompt(
            None, tuple(range(1, n + 1)), ("",) * n, {"end": n - 2} if place == 0 else {}, answer=9 if place else None
        )
        for place, n in enumerate(LENGTHS)
    ]


def cost(edges: tuple[int, ...], lengths: list[int]) -> int:
    return len(edges) * BUCKET_COST + sum(min(edge for edge in edges if edge >= n) - n for n in lengths)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(
    distinct=st.lists(st.integers(1, 900), min_size=1, max_size=9, unique=True),
    often=st.lists(st.integers(1, 60), min_size=9, max_size=9),
)
def test_buckets_cost_least(distinct: list[int], often: list[int]) -> None:
    """Catches a choice that is not the best one: all choices of at most six buckets are tried."""
    lengths = [n for n, times in zip(distinct, often, strict=False) for _ in range(times)]
    edges = bucket_edges(lengths)
    longest, others = max(distinct), sorted(set(distinct) - {max(distinct)})
    choices = [(*some, longest) for size in range(MOST_BUCKETS) for some in combinations(others, size)]
    assert list(edges) == sorted(edges)
    assert edges in choices
    assert cost(edges, lengths) == min(cost(each, lengths) for each in choices)


def test_every_prompt_is_in_one_batch() -> None:
    """Catches prompts lost or doubled, padding that hides tokens, and filling rows that could fire."""
    found = list(batches(prompts(), (3, 7), 2, 4, "cpu"))
    assert [batch.tokens.shape for batch in found] == [(2, 3), (2, 7), (2, 7)]
    assert [batch.place.tolist() for batch in found] == [[1, 4], [0, 2], [3, NONE]]
    for batch in found:
        for row, place in enumerate(batch.place):
            if place == NONE:
                assert (batch.length[row], batch.last[row], batch.answer[row], batch.distractor[row]) == (
                    0,
                    -1,
                    NONE,
                    NONE,
                )
                assert not batch.tokens[row].any()
                continue
            prompt = batch.prompts[row]
            assert prompt == prompts()[place]
            assert batch.tokens[row].tolist() == [*prompt.tokens] + [prompt.tokens[-1]] * (
                batch.tokens.shape[1] - len(prompt.tokens)
            )
            assert (batch.length[row], batch.last[row]) == (len(prompt.tokens), prompt.last)
            assert batch.answer[row] == (9 if place else NONE)
            assert batch.distractor[row] == NONE
    assert found[1].last.tolist() == [3, 6]


def test_few_prompts_make_a_small_batch() -> None:
    """Catches a full-sized batch made of filling, and as many shapes as there are counts."""
    sizes = [len(next(batches(prompts()[:count], (7,), 64, 4, "cpu")).tokens) for count in range(1, 6)]
    assert sizes == [1, 2, 4, 4, 8]


@pytest.mark.parametrize(
    ("count", "size", "rows"), [(256, 97, [86] * 3), (10, 4, [4] * 3), (9, 4, [3] * 3), (8, 8, [8])]
)
def test_many_prompts_are_shared_out(count: int, size: int, rows: list[int]) -> None:
    """Catches a last batch that is mostly filling, computed for nothing."""
    assert [len(batch.tokens) for batch in batches(prompts()[:1] * count, (7,), size, 4, "cpu")] == rows


@pytest.mark.parametrize(
    ("n_tokens", "n_heads", "kind", "size"),
    [(16, 12, "cpu", 128), (4096, 12, "cpu", 1), (1024, 12, "gpu", 21), (64, 12, "tpu", 512)],
)
def test_the_automatic_size(n_tokens: int, n_heads: int, kind: str, size: int) -> None:
    """Catches a size that depends on anything but shapes and the kind of device, or that is 0."""
    assert automatic_batch_size(n_tokens, n_heads, kind) == size


def test_the_automatic_size_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "automatic_batch_size", lambda *_: 2)
    assert [len(batch.tokens) for batch in batches(prompts(), (7,), "auto", 4, "cpu")] == [2, 2, 2]


def test_lengths_have_a_place() -> None:
    """Catches a bucket edge that a prompt as long as it does not fit, and prompts that fit none."""
    found = list(batches(prompts(), bucket_edges(LENGTHS), "auto", 4, "cpu"))
    assert sorted(place for batch in found for place in batch.place if place != NONE) == list(range(len(LENGTHS)))
    for batch in found:
        assert np.all(batch.length <= batch.tokens.shape[1])
