"""The bundled model's tokenizer: byte-level BPE in which every word of the language is one token.

As in GPT-2 a word's token includes the space before it (`" Mary"`), and any other text is encoded too, down to single
bytes. The merges are learnt from the list of words alone, each counted once, until every word is whole.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from functools import cache

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers

from gpt2jax.tokenizer import Tokenizer
from svdtrace.prompts import language

END_OF_TEXT = "<|endoftext|>"

Merge = tuple[str, str]


@cache
def language_tokenizer() -> Tokenizer:
    """The bundled model's own: that of the words of `svdtrace.prompts.language`."""
    return build_tokenizer(language.surface_words())


def build_tokenizer(words: Iterable[str]) -> Tokenizer:
    """A tokenizer that has a token for each word.

    Args:
        words: as texts hold them, with their leading space.

    Returns:
        The tokenizer; its vocabulary is the 256 bytes, what merges make, and the end-of-text token, in this order.
    """
    merges = learn_merges([_byte_characters(word) for word in words])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = dict.fromkeys([*alphabet, *(left + right for left, right in merges), END_OF_TEXT])
    vocabulary = {token: number for number, token in enumerate(tokens)}
    library = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    library.add_special_tokens([AddedToken(END_OF_TEXT, normalized=False, special=True)])
    content = library.to_str(pretty=True).encode()
    return Tokenizer(library, {"tokenizer.json": content}, len(vocabulary), vocabulary[END_OF_TEXT])


def learn_merges(words: Iterable[str]) -> list[Merge]:
    """Byte-pair merges, most frequent pair first, until every word is one piece (Sennrich et al. 2016)."""
    pieces = [list(word) for word in sorted(set(words))]
    merges = []
    while pieces := [each for each in pieces if len(each) > 1]:
        counts = Counter(pair for each in pieces for pair in itertools.pairwise(each))
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        pieces = [_merged(each, best) for each in pieces]
    return merges


def _merged(pieces: list[str], pair: Merge) -> list[str]:
    merged: list[str] = []
    place = 0
    while place < len(pieces):
        if tuple(pieces[place : place + 2]) == pair:
            merged.append(pieces[place] + pieces[place + 1])
            place += 2
        else:
            merged.append(pieces[place])
            place += 1
    return merged


def _byte_characters(word: str) -> str:
    """The word as byte-level BPE writes it: `" Mary"` is `"ĠMary"`."""
    return "".join(text for text, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(word))
