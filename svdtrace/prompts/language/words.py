"""Names, objects and places, each one token with its leading space in GPT-2's vocabulary, and which of them to use."""

from __future__ import annotations

import functools
import itertools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from gpt2jax.errors import TokenizerError

Split = Literal["train", "held_out", "new_clause", "any"]
Item = TypeVar("Item")

NAMES = tuple(
    """
    Aaron Adam Alice Amy Andrew Angela Anna Anthony Arthur Ben Brian Bruce Carl Catherine Charles Claire Craig Daniel
    David Diana Dorothy Edward Elena Ellen Emily Emma Eric Ethan Eva Frank George Grace Greg Hannah Harry Helen Henry
    Howard Ian Ivan Jack Jacob James Jane Janet Jason Jessica Joan John Jonathan Joseph Joshua Julia Justin Karen Kate
    Keith Kevin Kyle Larry Laura Lauren Lily Linda Lisa Louis Lucy Luke Marcus Maria Martha Martin Mary Matthew Michael
    Michelle Nancy Nathan Nicole Nina Nora Olivia Oscar Patrick Paul Peter Rachel Rebecca Richard Robert Roger Ruby Ruth
    Ryan Samuel Sandra Sarah Scott Sean Simon Sophie Stella Susan Thomas Tony Victor Victoria Walter William Zoe
    """.split()
)
OBJECTS = tuple(
    """
    ball bag bell bike blanket bone book bottle bowl box bucket cake camera candle card chair coin computer cookie cup
    drum flag flower gift glass guitar hammer hat helmet jar key knife lamp letter map mirror necklace painting pen
    pencil phone photo plant plate pot purse radio ribbon ring rope scarf shell shirt snack spoon ticket towel tray
    violin wallet watch whistle
    """.split()
)
PLACES = tuple(
    """
    airport bakery bank barn beach bridge castle church circus club college farm forest garden gym harbor hospital hotel
    house island kitchen lake library market museum office palace park restaurant school shop stadium station store
    studio temple theater tower village zoo
    """.split()
)


@dataclass(frozen=True)
class Words:
    """The words that sentences may use, and the pairs of names among them."""

    names: tuple[str, ...] = NAMES
    objects: tuple[str, ...] = OBJECTS
    places: tuple[str, ...] = PLACES

    @classmethod
    def that(cls, allowed: Callable[[str], bool]) -> Words:
        """The words that a tokenizer knows as one token each.

        Args:
            allowed: whether a word, given with its leading space (`" Mary"`), is one token.

        Raises:
            TokenizerError: fewer than 4 names, 3 objects or 2 places remain, as many as one sentence may need.
        """
        kinds = (("names", NAMES, 4), ("objects", OBJECTS, 3), ("places", PLACES, 2))
        kept = {kind: tuple(word for word in words if allowed(f" {word}")) for kind, words, _ in kinds}
        for kind, words, least in kinds:
            if len(kept[kind]) < least:
                found = f"{len(kept[kind])} of our {len(words)} {kind} are one token each in this tokenizer"
                raise TokenizerError(f"{found}, expected {least} or more; give prompts of your own in a file")
        return cls(**kept)

    def pairs(self, split: Split) -> tuple[tuple[str, str], ...]:
        """The unordered pairs of names of a split; about one in ten is held out.

        Raises:
            TokenizerError: so few names remain that the split has none.
        """
        chosen = _pairs(self.names, split)
        if not chosen:
            raise TokenizerError(
                f"no pair of the {len(self.names)} names that are one token each is in the split {split}; ask for any"
            )
        return chosen


@functools.lru_cache(maxsize=32)
def _pairs(names: tuple[str, ...], split: Split) -> tuple[tuple[str, str], ...]:
    pairs = itertools.combinations(sorted(names), 2)
    return tuple(pair for pair in pairs if split == "any" or is_held_out(*pair) == (split != "train"))


def is_held_out(*parts: str) -> bool:
    """Whether training never sees these parts together: fixed for good, one in ten, whatever the seed."""
    return zlib.crc32("|".join(parts).encode()) % 10 == 0


def pick(random: Random, items: tuple[Item, ...]) -> Item:
    """One of the items. `Random.random` alone is promised to stay as it is from one Python to the next."""
    return items[int(random.random() * len(items))]


def pick_some(random: Random, items: tuple[Item, ...], count: int) -> tuple[Item, ...]:
    """Different items in random order."""
    left = list(items)
    return tuple(left.pop(int(random.random() * len(left))) for _ in range(count))
