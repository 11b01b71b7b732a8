"""How a stream is cut: by what it holds alone, one record at a time, and never beyond what a part may take."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest

from svdtrace.errors import PromptError
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.records import Limits
from svdtrace.sweeping.windows import Built, Cut, Window, built, first_of, padded_tokens, windows
from svdtrace.tracing.batching import Plan, planned_batches

PLAN = Plan(edges=(4, 10), sizes=(3, 2))
LIMITS = Limits(None, d_vocab=20, n_ctx=10)


def prompt(n_tokens: int) -> Prompt:
    return Prompt(None, (1,) * n_tokens, ("1",) * n_tokens)


def stream(*lengths: int) -> Iterator[Built]:
    return (
        Built(place, f"line {place + 1}", prompt(length) if length else None) for place, length in enumerate(lengths)
    )


def cut(found: Iterator[Window]) -> list[int]:
    return [len(each.prompts) + len(each.rejected) for each in found]


@pytest.mark.parametrize("lengths", [[3], [3, 4, 4], [4] * 4, [1, 9, 5], [9, 9, 9, 1, 1, 1, 1]])
def test_what_counts_is_what_the_batches_hold(lengths: list[int]):
    prompts = [prompt(length) for length in lengths]
    assert padded_tokens(prompts, PLAN) == sum(batch.tokens.size for batch in planned_batches(prompts, PLAN))


@pytest.mark.parametrize(
    ("tokens", "lengths", "expected"),
    [
        (None, [1] * 7, [5, 2]),
        (24, [1] * 7, [5, 2]),
        # One batch of three short ones, 12 tokens, is all that there is room for.
        (23, [1] * 7, [3, 3, 1]),
        # A long one opens a batch of its own, 20 tokens; the short one after it another.
        (32, [1, 9, 1, 9, 9], [4, 1]),
        (31, [1, 9, 1], [1, 1, 1]),
        # What alone is too much is a window all the same.
        (1, [9, 9, 1], [2, 1]),
        # What cannot be used takes a place, and no room.
        (12, [0, 1, 0, 0, 1, 1, 0], [5, 2]),
    ],
)
def test_windows_hold_what_a_part_may_take(tokens: int | None, lengths: list[int], expected: list[int]):
    assert cut(windows(stream(*lengths), Cut(5, tokens, PLAN))) == expected


def test_a_window_is_made_without_asking_for_more():
    def until_asked_for_more() -> Iterator[Built]:
        yield from stream(1, 1)
        raise AssertionError("asked for more")

    assert cut(iter([next(windows(until_asked_for_more(), Cut(2, None, PLAN)))])) == [2]


def test_places_go_through_all_windows():
    found = list(windows(stream(1, 0, 1, 1), Cut(2, None, PLAN)))
    assert [(each.number, each.places, [bad.prompt for bad in each.rejected]) for each in found] == [
        (0, (0,), [1]),
        (1, (2, 3), []),
    ]


def test_an_id_is_used_once_within_a_window():
    records = [(f"line {number}", {"tokens": [1], "id": "a"}) for number in (1, 2, 3)]
    first, second = windows(built(records, LIMITS), Cut(2, None, PLAN))
    assert [each.reason for each in first.rejected] == ['id "a" was used before, at line 1; rename one']
    assert second.places == (2,)
    with pytest.raises(PromptError, match='line 2: id "a" was used before, at line 1'):
        list(windows(built(records, LIMITS, strict=True), Cut(2, None, PLAN), strict=True))


def test_the_first_records_are_those_that_it_takes_to_have_prompts():
    given = stream(0, 0, 0, 1, 1)
    first = first_of(given, 2, "p.jsonl")
    assert [each.place for each in chain(first, given)] == [0, 1, 2, 3, 4]
    assert len(first) == 4
    with pytest.raises(PromptError, match=r"p\.jsonl: holds no prompts"):
        first_of(stream(), 2, "p.jsonl")
    with pytest.raises(PromptError, match=r"p\.jsonl: none of its 3 prompts can be used; of the first, line 1: "):
        first_of(stream(0, 0, 0), 2, "p.jsonl")
