"""Sentences as a model reads them: token ids, and roles as token positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol

from gpt2jax.errors import TokenizerError
from svdtrace.prompts.language.copy_sentences import copy_sentence
from svdtrace.prompts.language.ioi_sentences import ioi_sentence
from svdtrace.prompts.language.ordinary_sentences import ordinary_sentence
from svdtrace.prompts.language.sentences import Sentence, Span
from svdtrace.prompts.language.words import Split, Words

# METHOD.md, "The prompts of the paper": this order decides which label a token bears that has several roles.
IOI_ROLES = (
    *("IO", "IO-1", "IO+1", "S1", "S1-1", "S1+1", "S2", "S2-1", "S2+1", "end", "end-1", "starts", "punct", "verb"),
)


class TextTokenizer(Protocol):
    """What is asked of a tokenizer: `gpt2jax.Tokenizer` has it."""

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids, and the characters of each."""
        ...

    def strings(self, ids: Sequence[int]) -> list[str]:
        """Each token's own text."""
        ...

    def token_id(self, text: str) -> int | None:
        """The id of a text that is exactly one token."""
        ...


@dataclass(frozen=True)
class Tokenised:
    """A sentence in a model's vocabulary.

    Args:
        id: kind and number, `ioi-0`.
        text: what was tokenised.
        tokens, strings: ids, and each token's own text.
        roles: token positions by name, in the order in which labels are given.
        answer, distractor: token ids, or None where nothing is asked. The answer is also the last token.
    """

    id: str
    text: str
    tokens: tuple[int, ...]
    strings: tuple[str, ...]
    roles: dict[str, int]
    answer: int | None
    distractor: int | None


def ioi(n: int, tokenizer: TextTokenizer, seed: int = 0, split: Split = "any") -> list[Tokenised]:
    """`n` indirect-object prompts.

    Args:
        tokenizer: names, objects and places that it has no single token for are not used.
        seed: the prompts of a smaller `n` are the first ones of a larger.
        split: see `ioi_sentence`; by default the mixture of all that training has clauses for.

    Raises:
        TokenizerError: too few names, objects or places are one token each.
    """
    return list(stream_ioi(n, tokenizer, seed, split))


def stream_ioi(n: int, tokenizer: TextTokenizer, seed: int = 0, split: Split = "any") -> Iterator[Tokenised]:
    """What `ioi` gives, one by one."""
    words = words_of(tokenizer)
    words.pairs(split)
    return _tokenised("ioi", n, tokenizer, seed, partial(ioi_sentence, words=words, split=split), _ioi_roles)


def ordinary(n: int, tokenizer: TextTokenizer, seed: int = 0) -> list[Tokenised]:
    """`n` short texts off the task, without roles.

    Raises:
        TokenizerError: too few names, objects or places are one token each.
    """
    return list(stream_ordinary(n, tokenizer, seed))


def stream_ordinary(n: int, tokenizer: TextTokenizer, seed: int = 0) -> Iterator[Tokenised]:
    """What `ordinary` gives, one by one."""
    make = partial(ordinary_sentence, words=words_of(tokenizer))
    return _tokenised("ordinary", n, tokenizer, seed, make, _no_roles)


def copying(n: int, tokenizer: TextTokenizer, seed: int = 0) -> list[Tokenised]:
    """`n` prompts of the second task, a list of words said twice; see `copy_sentence` for the roles.

    Raises:
        TokenizerError: too few names, objects or places are one token each.
    """
    make = partial(copy_sentence, words=words_of(tokenizer))
    return list(_tokenised("copying", n, tokenizer, seed, make, _copy_roles))


def words_of(tokenizer: TextTokenizer) -> Words:
    """The names, objects and places that are one token each, with a leading space.

    Raises:
        TokenizerError: too few are.
    """

    def own_token(word: str) -> bool:
        """Whether it is one token, and not the one of all unknown words."""
        token = tokenizer.token_id(word)
        return token is not None and tokenizer.strings([token])[0].strip() == word.strip()

    return Words.that(own_token)


def _tokenised(
    kind: str,
    n: int,
    tokenizer: TextTokenizer,
    seed: int,
    make: Callable[[Random], Sentence],
    roles_of: Callable[[Sentence, list[Span]], dict[str, int]],
) -> Iterator[Tokenised]:
    random = Random(seed)
    for number in range(n):
        sentence = make(random)
        ids, offsets = tokenizer.encode_with_offsets(sentence.text)
        answer, distractor = (_word_id(tokenizer, word) for word in (sentence.answer, sentence.distractor))
        roles = roles_of(sentence, offsets)
        name = f"{kind}-{number}"
        if answer is not None and ids[-1] != answer:
            raise TokenizerError(
                f"{name}: {sentence.text!r} does not end with the one token of {sentence.answer!r}; "
                "give prompts of your own in a file"
            )
        yield Tokenised(name, sentence.text, tuple(ids), tuple(tokenizer.strings(ids)), roles, answer, distractor)


def _word_id(tokenizer: TextTokenizer, word: str | None) -> int | None:
    return None if word is None else tokenizer.token_id(f" {word}")


def _ioi_roles(sentence: Sentence, offsets: list[Span]) -> dict[str, int]:
    at = {role: _token_at(span, offsets) for role, span in sentence.roles.items()}
    beside = {f"{role}{by:+d}": at[role] + by for role in ("IO", "S1", "S2", "end") for by in (-1, 1)}
    return {role: (at | beside)[role] for role in IOI_ROLES}


def _no_roles(_sentence: Sentence, _offsets: list[Span]) -> dict[str, int]:
    return {}


def _copy_roles(sentence: Sentence, offsets: list[Span]) -> dict[str, int]:
    return {role: _token_at(span, offsets) for role, span in sentence.roles.items() if role != "final"}


def _token_at(span: Span, offsets: list[Span]) -> int:
    """The token that ends a range of characters: the last one of a word that takes several."""
    last = span[1] - 1
    return next(place for place, (start, end) in enumerate(offsets) if start <= last < end)
