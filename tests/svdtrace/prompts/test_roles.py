"""Roles by text: one place or a number; where several are meant, the message names them and what to write."""

from __future__ import annotations

import re
from typing import Any

import pytest

from svdtrace.errors import PromptError
from svdtrace.prompts.roles import Located, position


def located(*tokens: str) -> Located:
    ends = [sum(map(len, tokens[: place + 1])) for place in range(len(tokens))]
    return Located("".join(tokens), tuple(zip([0, *ends[:-1]], ends, strict=True)), len(tokens))


MARY = located("When", " Mary", " and", " John", ",", " John", " ran")
OVERLAPPING = located("a", "a", "a")
WITHIN = located("An", " banana", " Anna", " cabana")
# Two tokens hold bytes of one character each; so says a tokenizer of bytes.
EMOJI = Located("Hi 🙂 ho 🙂", ((0, 2), (2, 4), (3, 4), (4, 7), (7, 9), (8, 9)), 6)


@pytest.mark.parametrize(
    ("text", "prompt", "places"),
    [
        (" John", MARY, [3, 5]),
        ("John", MARY, [3, 5]),
        ("aa", OVERLAPPING, [1, 2]),
        ("ana", WITHIN, [1, 1, 3]),
        ("🙂", EMOJI, [2, 5]),
    ],
)
def test_text_that_occurs_at_several_tokens_is_refused_with_its_places(text: str, prompt: Located, places: list[int]):
    said = (
        f'role "S1" is the text "{text}", which occurs {len(places)} times in the prompt, at positions '
        f'{", ".join(map(str, places))}; say which is meant: "S1": ["{text}", 1]'
    )
    with pytest.raises(PromptError, match=f"^{re.escape(said)}$"):
        position("S1", text, prompt)
    assert [position("S1", [text, number], prompt) for number in range(1, len(places) + 1)] == places


@pytest.mark.parametrize(
    ("value", "prompt", "place"),
    [
        ("Mary", MARY, 1),
        (" John ran", MARY, 6),
        # Within one token twice: there is but one place that is meant.
        ("an", located(" banana", "."), 0),
        # As a token once, within another besides.
        ("An", WITHIN, 0),
        ("Hi 🙂", EMOJI, 2),
    ],
)
def test_text_that_means_one_token_needs_no_number(value: Any, prompt: Located, place: int):
    assert position("r", value, prompt) == place


@pytest.mark.parametrize("value", ["", ["Mary", None], ["Mary", True], ["Mary", "1"], ["Mary"], {"Mary": 1}, None])
def test_what_is_neither_position_nor_text_is_refused(value: Any):
    with pytest.raises(PromptError, match="give a position, text of the prompt"):
        position("r", value, MARY)
