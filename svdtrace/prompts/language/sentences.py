"""A sentence: text, the characters at which its roles are, and the name or word that it asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from svdtrace.prompts.language.words import Words, pick_some

Span = tuple[int, int]

_MARK = re.compile(r"\{(?P<slot>[A-Za-z]+)\}|\*(?P<verb>[a-z]+)\*")


@dataclass(frozen=True)
class Sentence:
    """Text of our own making.

    Args:
        text: never begins with a name, since a trace skips what attends to the first token.
        roles: the half-open range of characters of each role that the text has.
        answer, distractor: the word that should come last and the one that should not; None where nothing is asked.
        pattern: what the text was made from, slots unfilled.
    """

    text: str
    roles: dict[str, Span] = field(default_factory=dict)
    answer: str | None = None
    distractor: str | None = None
    pattern: str = ""


def fill(template: str, random: Random, words: Words, given: dict[str, str]) -> tuple[str, dict[str, list[Span]]]:
    """Put words into a template's slots.

    Args:
        template: text with slots `{like}` these and verbs `*marked*`.
        given: what to put into which slot; `{object}` and `{place}` are drawn, no word twice.

    Returns:
        The text, and for each slot, and for `verb`, the ranges of characters that it takes, in order.
    """
    drawn = {
        slot: iter(pick_some(random, pool, template.count(f"{{{slot}}}")))
        for slot, pool in (("object", words.objects), ("place", words.places))
    }
    text, spans, done = "", {}, 0
    for mark in _MARK.finditer(template):
        text += template[done : mark.start()]
        done = mark.end()
        slot = mark["slot"] or "verb"
        if slot == "verb":
            word = mark["verb"]
        else:
            word = given[slot] if slot in given else next(drawn[slot])
        spans.setdefault(slot, []).append((len(text), len(text) + len(word)))
        text += word
    return text + template[done:], spans


def plain(template: str, random: Random, words: Words, given: dict[str, str]) -> str:
    """The text alone of a filled template."""
    return fill(template, random, words, given)[0]


def shifted(spans: dict[str, list[Span]], by: int) -> dict[str, list[Span]]:
    """The same spans in a text that has `by` more characters in front."""
    return {slot: [(start + by, end + by) for start, end in each] for slot, each in spans.items()}


def third_names(random: Random, words: Words, taken: tuple[str, ...]) -> dict[str, str]:
    """Names for `{other}` and `{another}` that nobody else in the text bears."""
    free = tuple(name for name in words.names if name not in taken)
    other, another = pick_some(random, free, 2)
    return {"other": other, "another": another}
