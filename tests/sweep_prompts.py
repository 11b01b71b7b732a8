"""Prompts of a few lengths for sweeps of a small model."""

from __future__ import annotations

from svdtrace.prompts.prompt import Prompt


def prompt(number: int, *roles: str) -> Prompt:
    """A prompt of 4 to 7 tokens; of the roles IO and end those that are named, both by default."""
    length = 4 + number % 4
    tokens = tuple((number * 7 + 3 * place * place) % 19 for place in range(length))
    places = {"IO": 1, "end": length - 1}
    return Prompt(f"p{number}", tokens, tuple(map(str, tokens)), {name: places[name] for name in roles or places}, 3, 5)
