"""The whole language: what a model is trained on, and every word that it consists of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from svdtrace.prompts.language import clauses, copy_sentences, ordinary_sentences
from svdtrace.prompts.language.copy_sentences import whole_copy
from svdtrace.prompts.language.ioi_sentences import ioi_sentence, with_sequel
from svdtrace.prompts.language.ordinary_sentences import ordinary_sentence
from svdtrace.prompts.language.sentences import Span
from svdtrace.prompts.language.words import NAMES, OBJECTS, PLACES, Words

# Of documents; by tokens they are 49 %, 33 % and 18 %.
SHARES = {"ioi": 0.40, "ordinary": 0.40, "copying": 0.20}

_SLOT_OR_MARK = re.compile(r"\{\w+\}|\*")
_WORD = re.compile(r"[A-Za-z]+|[.,:;?]")


@dataclass(frozen=True)
class Document:
    """One text of the training split, whole sentences.

    Args:
        kind: `ioi`, `ordinary` or `copying`.
        determined: the characters of the words that what is before them determines: the indirect object at the end of
            its sentence, a list's words from the second round on.
    """

    kind: str
    text: str
    determined: tuple[Span, ...] = ()


def document(random: Random, words: Words) -> Document:
    """A text of a kind drawn by `SHARES`."""
    drawn = random.random()
    if drawn < SHARES["ioi"]:
        sentence = ioi_sentence(random, words, "train")
        return Document("ioi", with_sequel(sentence, random, words), (sentence.roles["final"],))
    if drawn < SHARES["ioi"] + SHARES["ordinary"]:
        return Document("ordinary", ordinary_sentence(random, words).text)
    return Document("copying", *whole_copy(random, words))


def templates() -> tuple[str, ...]:
    """Every piece of text that sentences are made from, slots unfilled."""
    pieces = (
        *(clauses.MAIN_OPENINGS, clauses.SUBORDINATE_OPENINGS, clauses.SETTINGS, clauses.MAIN_CONNECTIVES),
        *(clauses.SUBORDINATE_CONNECTIVES, clauses.GIVINGS, (clauses.NEW_SETTING, clauses.NEW_GIVING, "and")),
        *(clauses.BEFORE_WITH_NAMES, clauses.AFTER, ordinary_sentences.FOLLOWERS),
        *copy_sentences.FRAMES,
    )
    return tuple(text for piece in pieces for text in piece)


def surface_words() -> tuple[str, ...]:
    """Every word and punctuation mark as texts hold it: `" Mary"`, `","`, and `"Then"` for what a text begins with."""
    drawn = {*NAMES, *OBJECTS, *PLACES, *(word for pool in ordinary_sentences.POOLS.values() for word in pool)}
    found, first = set(drawn), set()
    for template in templates():
        said = _WORD.findall(_SLOT_OR_MARK.sub("", template))
        found.update(said)
        if template[0].isupper():
            first.add(said[0])
    surfaces = {f" {word}" if word[0].isalpha() else word for word in found} | first
    return tuple(sorted(surfaces))
