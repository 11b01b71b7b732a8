"""Indirect-object sentences: "Then, Mary and John went to the store. John gave a book to Mary"."""

from __future__ import annotations

import re
from random import Random

from svdtrace.prompts.language.clauses import AFTER, BEFORE_WITH_NAMES, NAMELESS_BEFORE, combinations
from svdtrace.prompts.language.sentences import Sentence, fill, plain, shifted, third_names
from svdtrace.prompts.language.words import Split, Words, pick


def ioi_sentence(random: Random, words: Words, split: Split = "any") -> Sentence:
    """One sentence that ends with the indirect object, and none to two sentences before it.

    Both names come once in the one order and once in the other equally often (ABBA, BABA), and either is the one that
    comes again equally often. `train` takes combinations of clauses and pairs of names that training sees, `held_out`
    combinations and pairs that it does not, `new_clause` sentences with a clause that it does not see at all and pairs
    as in `held_out`, and `any` whatever `train` and `held_out` may take.

    Returns:
        The sentence; its roles are IO, S1, S2, end, starts, punct, verb and `final`, the name at the end.
    """
    pair = pick(random, words.pairs(split))
    first, second = pair if random.random() < 0.5 else pair[::-1]
    subject_first = random.random() < 0.5
    subject, receiver = (first, second) if subject_first else (second, first)
    names = {"A": first, "B": second, "S": subject, "IO": receiver, **third_names(random, words, pair)}
    combination = pick(random, combinations(split))
    before = _before(random, words, names)
    asked, spans = fill(combination.template, random, words, names)
    spans = shifted(spans, len(before))
    text = before + asked
    final = spans["IO"][0]
    roles = {
        "IO": spans["B" if subject_first else "A"][0],
        "S1": spans["A" if subject_first else "B"][0],
        "S2": spans["S"][0],
        "end": (text.rindex(" ", 0, final[0] - 1) + 1, final[0] - 1),
        "starts": (len(before), len(before) + len(re.split(r"\W", asked, maxsplit=1)[0])),
        "punct": _last_punctuation(text),
        "verb": spans["verb"][0],
        "final": final,
    }
    order = "BABA" if subject_first else "ABBA"
    return Sentence(text, roles, receiver, subject, f"{order}: {combination.template}")


def with_sequel(sentence: Sentence, random: Random, words: Words) -> str:
    """The text of a sentence, ended, with none to two sentences after it."""
    text = f"{sentence.text}."
    pair = (sentence.answer or "", sentence.distractor or "")
    names = {"IO": pair[0], "S": pair[1], **third_names(random, words, pair)}
    for _ in range(pick(random, (0, 1, 1, 2))):
        text += " " + plain(pick(random, AFTER), random, words, names)
    return text


def _before(random: Random, words: Words, names: dict[str, str]) -> str:
    """None to two sentences, at most one of them with names, each followed by a space."""
    templates: tuple[str, ...] = ()
    if random.random() < 0.3:
        templates += (pick(random, NAMELESS_BEFORE),)
    if random.random() < 0.55:
        templates += (pick(random, BEFORE_WITH_NAMES),)
    return "".join(plain(template, random, words, names) + " " for template in templates)


def _last_punctuation(text: str) -> tuple[int, int]:
    place = max(text.rfind(","), text.rfind("."))
    return place, place + 1
