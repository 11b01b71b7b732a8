"""Where a role stands: by position, or by text that occurs in the prompt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from svdtrace.errors import PromptError

Span = tuple[int, int]


@dataclass(frozen=True)
class Located:
    """A prompt's text with the characters [start, end) of each token; `text` is None without a tokenizer."""

    text: str | None
    spans: tuple[Span, ...]
    n_tokens: int


def position(role: str, value: Any, located: Located) -> int:
    """The position of a role.

    Args:
        role: its name, for messages.
        value: a position; or text in the prompt, `"Mary"` where all its occurrences end in one token, `["Mary", 2]`
            for the second of several. Text of several tokens stands for the last of them.
        located: the prompt's text and tokens.

    Raises:
        PromptError: the position is outside the prompt, or the text does not occur so often, or occurs at several
            tokens and it is not said which is meant.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < located.n_tokens:
            raise PromptError(f'role "{role}" is position {value}, but the prompt has {located.n_tokens} tokens')
        return value
    text, which = _text_and_occurrence(role, value)
    if located.text is None:
        raise PromptError(f'role "{role}" is the text "{text}", but the model has no tokenizer; give its position')
    ends = occurrences(text, located)
    if not ends:
        raise PromptError(f'role "{role}" is the text "{text}", which does not occur in the prompt')
    if which is None and len(set(ends)) > 1:
        raise PromptError(
            f'role "{role}" is the text "{text}", which occurs {len(ends)} times in the prompt, at positions '
            f"{', '.join(map(str, ends))}; say which is meant: {_first_of(role, text)}"
        )
    occurrence = which or 1
    if occurrence > len(ends):
        raise PromptError(
            f'role "{role}" is occurrence {occurrence} of "{text}", but it occurs {len(ends)} times in the prompt'
        )
    return ends[occurrence - 1]


def _first_of(role: str, text: str) -> str:
    """How a prompt's file asks for the first occurrence: `"S1": [" John", 1]`."""
    return f"{json.dumps(role, ensure_ascii=False)}: {json.dumps([text, 1], ensure_ascii=False)}"


def occurrences(text: str, located: Located) -> list[int]:
    """Positions of the last token of each occurrence of `text`.

    Occurrences that begin and end with a token (spaces aside) are counted; only where there is none, so is text within
    tokens. So "Ann" is not found in " Anna" where both occur.
    """
    whole, within = [], []
    haystack = located.text or ""
    starts = {_first_letter(haystack, start) for start, _ in located.spans} | {start for start, _ in located.spans}
    ends = {end for _, end in located.spans} | {len(haystack[:end].rstrip()) for _, end in located.spans}
    start = haystack.find(text)
    while start >= 0:
        end = start + len(text)
        holders = [place for place, (first, stop) in enumerate(located.spans) if first < end <= stop]
        if holders:
            within.append(holders[-1])
            if start in starts and end in ends:
                whole.append(holders[-1])
        start = haystack.find(text, start + 1)
    return whole or within


def _first_letter(text: str, start: int) -> int:
    """Where the token that starts at `start` begins to be more than space."""
    return len(text) - len(text[start:].lstrip())


def _text_and_occurrence(role: str, value: Any) -> tuple[str, int | None]:
    """The text that a role is, and which of its occurrences, where that is said."""
    if isinstance(value, list | tuple) and len(value) == 2:
        text, occurrence = value
        told = isinstance(occurrence, int) and not isinstance(occurrence, bool)
    else:
        text, occurrence, told = value, None, True
    if not isinstance(text, str) or not text or not told:
        raise PromptError(
            f'role "{role}" is {value!r}; give a position, text of the prompt ("Mary"), or text and which of its '
            'occurrences (["Mary", 2])'
        )
    if occurrence is not None and occurrence < 1:
        raise PromptError(f'role "{role}" asks for occurrence {occurrence} of "{text}"; count from 1')
    return text, occurrence
