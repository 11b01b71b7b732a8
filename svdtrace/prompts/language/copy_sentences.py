"""The second task: a made-up list of words, said twice.

Which word comes next in the second round is nowhere but in the first one, so that the only way to know it is
induction: find where the present word stood before, read what followed (Olsson et al. 2022). That needs a head that
looks at the previous token and a later one composed with it, a circuit that shares little with the one for indirect
objects: it reads what stands beside a word rather than which word is doubled, it names things and not people, and it
works at every word of the second round rather than at one place. Heads that serve one task are therefore visible as
such when the other is traced.
"""

from __future__ import annotations

from random import Random

from svdtrace.prompts.language.sentences import Sentence, Span
from svdtrace.prompts.language.words import Words, pick, pick_some

FRAMES = (
    ("Please repeat:", "."),
    ("The words on the list are", ", and again"),
    ("Say it twice:", ","),
    ("Somebody wrote", ". Later somebody wrote"),
    ("First they read", ", then they read"),
)
LENGTHS = (4, 5, 6, 7, 8)


def copy_sentence(random: Random, words: Words) -> Sentence:
    """A list said twice, the second time up to a random word, which is the answer.

    Returns:
        The sentence; its roles are `first` (where the word at `end` stood in the first round), `copied` (what followed
        it, equal to the answer), `starts`, `end` and `final`, the word at the end.
    """
    opening, again = pick(random, FRAMES)
    pool = words.objects + words.places
    listed = pick_some(random, pool, min(pick(random, LENGTHS), len(pool)))
    said = int(random.random() * (len(listed) - 1)) + 2
    first_starts, second_starts = [], []
    text = opening
    for word in listed:
        first_starts.append(len(text) + 1)
        text += f" {word}"
    text += again
    for word in listed[:said]:
        second_starts.append(len(text) + 1)
        text += f" {word}"
    places = {
        "first": (first_starts[said - 2], listed[said - 2]),
        "copied": (first_starts[said - 1], listed[said - 1]),
        "starts": (0, opening.split(" ")[0]),
        "end": (second_starts[said - 2], listed[said - 2]),
        "final": (second_starts[said - 1], listed[said - 1]),
    }
    roles = {role: (start, start + len(word)) for role, (start, word) in places.items()}
    return Sentence(text, roles, listed[said - 1], None, f"{opening} …{again} …")


def whole_copy(random: Random, words: Words) -> tuple[str, tuple[Span, ...]]:
    """The text of a list said in full two to four times, and the characters of each word that is said again."""
    opening, again = pick(random, FRAMES)
    listed = pick_some(random, words.objects + words.places, pick(random, LENGTHS))
    text, repeated = " ".join((opening, *listed)), []
    for _ in range(pick(random, (1, 2, 3))):
        text += again
        for word in listed:
            repeated.append((len(text) + 1, len(text) + 1 + len(word)))
            text += f" {word}"
    return f"{text}.", tuple(repeated)
