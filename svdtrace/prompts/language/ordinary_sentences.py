"""Short texts off the task: descriptions, weather, habits, small exchanges, with and without names.

None has two names of which one comes again before something is given. Names do come twice, and are given things, so
that neither a repeated name nor a final "to" alone says that a sentence is of the other kind.
"""

from __future__ import annotations

import re
from random import Random

from svdtrace.prompts.language.clauses import NAMELESS_BEFORE
from svdtrace.prompts.language.sentences import Sentence, plain, third_names
from svdtrace.prompts.language.words import Words, pick

POOLS: dict[str, tuple[str, ...]] = {
    "colour": ("red", "blue", "green", "yellow", "black", "white", "brown", "grey"),
    "animal": ("dog", "cat", "horse", "bird", "fox", "mouse", "cow", "duck", "bear", "fish"),
    "quality": ("old", "new", "small", "big", "quiet", "empty", "beautiful", "strange", "heavy", "cheap"),
    "person": ("teacher", "doctor", "farmer", "driver", "baker", "nurse", "neighbour", "captain"),
    "time": ("morning", "afternoon", "evening", "night"),
    "day": ("Monday", "Tuesday", "Friday", "Sunday"),
    "season": ("spring", "summer", "autumn", "winter"),
    "number": ("two", "three", "four", "five", "six", "seven", "ten"),
    "food": ("bread", "soup", "rice", "cheese", "fruit", "fish"),
    "material": ("wood", "stone", "glass", "paper", "gold", "silver"),
}

OPENERS = (
    *NAMELESS_BEFORE,
    "The {animal} is {colour} and very {quality}.",
    "The {object} on the table is made of {material}.",
    "In {season}, the {place} is {quality}.",
    "It rained all {time}.",
    "The wind was strong, but the sun was shining.",
    "There are {number} chairs in the {place}.",
    "The {person} lives near the {place}.",
    "The {person} has a {colour} {object} and a {quality} {object}.",
    "Every {day}, the {person} eats {food} at the {place}.",
    "A {quality} {animal} slept under the table.",
    "We had {food} and {food} for dinner.",
    "You can buy a {object} at the {place}.",
    "Where is the {object}? It is in the {place}.",
    "Nobody was waiting outside the {place}.",
    "The people in line at the {place} were tired.",
    "This {object} costs {number} coins, which is not cheap.",
    "My {colour} {object} is {quality}, but your {object} is {colour}.",
    "The {person} promised to come back in the {time}.",
    "Please do not lend this {object} to anyone.",
    "From the {place} you can see the {place}.",
    "The {animal} ran from the {place} to the {place}.",
    "I wanted a {object}, so I went to the {place}.",
    "Snow fell in the {season}, and the {place} was closed.",
    "My friend {name} works at the {place}.",
    "The {person} gave a {object} to {name}.",
    "On {day}, {name} and {other} were at the {place}.",
    "Does {name} like {food}? I think so.",
    "The {person} knows {name} and {other}.",
    "We all thanked {name} for the {food}.",
    "The {object} belongs to {name}, so give it back to {name}.",
)
FOLLOWERS = (
    *OPENERS,
    "{name} is a {person}.",
    "{name} has {number} {colour} coins.",
    "{name} likes {food}, but {other} likes {food} more.",
    "{name} came home in the {time} and slept.",
    "{name} was looking for a {object}.",
    "{name} and {other} are friends.",
    "{name} saw a {animal} near the {place}.",
    "I said to {name} that it was late.",
    "It was {name} who found the {quality} {object}.",
)

_SLOT = re.compile(r"\{(\w+)\}")


def ordinary_sentence(random: Random, words: Words) -> Sentence:
    """A text of two to four short sentences, with names drawn for each of them."""
    templates = (pick(random, OPENERS), *(pick(random, FOLLOWERS) for _ in range(pick(random, (1, 2, 2, 3)))))
    return Sentence(" ".join(_said(each, random, words) for each in templates), pattern=" ".join(templates))


def _said(template: str, random: Random, words: Words) -> str:
    names = third_names(random, words, ())
    pools = {slot: pick(random, POOLS[slot]) for slot in _SLOT.findall(template) if slot in POOLS}
    return plain(template, random, words, {"name": names["another"], "other": names["other"], **pools})
