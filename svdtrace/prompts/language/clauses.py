"""The clauses that indirect-object sentences are composed of, and which compositions training sees.

A clause is text with slots. `{A}`, `{B}`: the two names as they come; `{S}`: the one that comes again; `{IO}`: the
other one; `{other}`, `{another}`: third persons; `{object}`, `{place}`: drawn anew each time. Asterisks mark the verb.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

from svdtrace.prompts.language.words import Split, is_held_out

MAIN_OPENINGS = (
    "Then,",
    "Yesterday,",
    "On Monday,",
    "Last week,",
    "That morning, both",
    "One day,",
    "Early in the evening,",
    "A few days later,",
    "Today",
)
SUBORDINATE_OPENINGS = ("When", "After", "While", "As soon as", "Once", "Just before noon, when")

SETTINGS = (
    "went to the {place}",
    "had a lot of fun at the {place}",
    "were working at the {place}",
    "were thinking about going to the {place}",
    "had a long argument",
    "got a {object} at the {place}",
    "found a {object} near the old {place}",
    "met at the {place}",
    "were walking home from the {place}",
    "spent the whole afternoon at the {place}",
    "sat down together",
    "bought a {object} and a {object}",
    "were looking for a {object} in the {place}",
    "stayed late at the {place} with some friends",
    "left the {place} in a hurry",
    "came back",
)

# The pair in between takes no part: who is given something follows from who gives, not from who was named last.
MAIN_CONNECTIVES = (
    ".",
    ", and",
    ", so",
    ". After that,",
    ", and afterwards",
    ". A little later, in the {place},",
    ", while {other} and {another} stayed at home. Then",
    ". Meanwhile, {other} and {another} went to the {place}.",
    ". {other} and {another} came back too, and",
)
SUBORDINATE_CONNECTIVES = (
    ",",
    ", as always,",
    ", without a word,",
    " and {other} and {another} stayed at home,",
)

GIVINGS = (
    "*gave* a {object} to",
    "decided to *give* a {object} to",
    "wanted to *give* the {object} to",
    "decided to *give* it to",
    "*said* something to",
    "*said* to",
    "*handed* the {object} to",
    "happily *offered* a small {object} to",
    "*sent* a long letter to",
    "*passed* it over to",
    "*showed* an old {object} to",
    "*told* the whole story to",
    "*sold* a {object} to",
    "*bought* a new {object} for",
    "*opened* the door for",
    "quickly *brought* a glass of water to",
    "had to *return* the {object} to",
    "*made* a cake for",
    "*waved* to",
    "*explained* everything to",
)

NEW_SETTING = "were waiting in line outside the {place}"
NEW_GIVING = "promised to *lend* a {object} to"

NAMELESS_BEFORE = (
    "The sky was grey.",
    "It was a cold day.",
    "The {place} was open.",
    "There was a {object} on the table.",
    "Nobody knew what to do.",
    "We were at the {place}.",
    "The weather was good and the {place} was full of people.",
    "It had been raining for hours.",
    "This is a short story about a {object}.",
)
# Others than the two, mostly a pair as well and one of them named again: neither being in a pair nor being named twice
# is enough to know who is meant.
BEFORE_WITH_NAMES = (
    "Everyone liked {other}.",
    "My friend {other} was at the {place}.",
    "I met {other} and {another} at the {place}.",
    "We saw {other} and {another} near the {place}.",
    "The {object} belonged to {other} and {another}, but {other} was tired.",
    "Nobody knew where {other} and {another} were, and {another} was late.",
    "Both {other} and {another} were at home. Then {another} slept.",
    "The teacher asked {other} and {another} to wait, so {other} stayed at the {place}.",
)
AFTER = (
    "{IO} was very happy.",
    "{IO} thanked {S} and smiled.",
    "{S} went home.",
    "Then {IO} gave it back to {S}.",
    "Everyone smiled.",
    "It was late, and {S} was tired.",
    "That was very kind.",
    "Later, {IO} told {other} about it.",
)


@dataclass(frozen=True)
class Combination:
    """One way of putting clauses together."""

    opening: str
    setting: str
    connective: str
    giving: str

    @property
    def template(self) -> str:
        """The whole sentence with its slots, up to the final name."""
        return f"{self.opening} {{A}} and {{B}} {self.setting}{self.connective} {{S}} {self.giving} {{IO}}"

    @property
    def is_sensible(self) -> bool:
        """Whether "it" stands for something."""
        return " it " not in self.giving or "{object}" in self.setting

    @property
    def is_new(self) -> bool:
        """Whether one of its clauses occurs in no training text at all."""
        return self.setting == NEW_SETTING or self.giving == NEW_GIVING


@functools.cache
def combinations(split: Split) -> tuple[Combination, ...]:
    """All sensible combinations of a split; `any` is `train` and `held_out` together."""
    every = [each for each in _all() if each.is_sensible]
    if split == "new_clause":
        return tuple(each for each in every if each.is_new)
    seen = [each for each in every if not each.is_new]
    if split == "any":
        return tuple(seen)
    return tuple(each for each in seen if is_held_out(each.template) == (split == "held_out"))


def _all() -> list[Combination]:
    kinds = ((MAIN_OPENINGS, MAIN_CONNECTIVES), (SUBORDINATE_OPENINGS, SUBORDINATE_CONNECTIVES))
    return [
        Combination(opening, setting, connective, giving)
        for openings, connectives in kinds
        for opening, setting, connective, giving in itertools.product(
            openings, (*SETTINGS, NEW_SETTING), connectives, (*GIVINGS, NEW_GIVING)
        )
    ]
