"""Prompts that are made: name-giving sentences, ordinary sentences, pieces of a text file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2jax.errors import TokenizerError
from svdtrace.errors import PromptError
from svdtrace.prompts import language
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings.paths import path_of

if TYPE_CHECKING:
    from gpt2jax.tokenizer import Tokenizer


TRIES = 200


def ioi(n: int, tokenizer: Tokenizer | None, seed: int = 0, longest: int | None = None) -> list[Prompt]:
    """`n` indirect-object prompts in the vocabulary of `tokenizer`: "… Mary and John …, John gave … to Mary".

    Roles are the paper's: IO, S1, S2, end and their neighbours; `answer` is the IO name, `distractor` the S name.

    Args:
        n: how many.
        tokenizer: the model's.
        seed: the prompts of a smaller `n` are the first ones of a larger.
        longest: sentences of more tokens are passed over.

    Raises:
        PromptError: `n` is not positive, there is no tokenizer, too few words are one token of it each, or hardly a
            sentence is short enough.
    """
    return list(sentences("ioi", n, tokenizer, seed, longest))


def ordinary(n: int, tokenizer: Tokenizer | None, seed: int = 0, longest: int | None = None) -> list[Prompt]:
    """`n` short sentences that are no indirect-object prompts, for comparison "off the task".

    Args and errors: see `ioi`.
    """
    return list(sentences("ordinary", n, tokenizer, seed, longest))


def sentences(
    kind: str, n: int, tokenizer: Tokenizer | None, seed: int = 0, longest: int | None = None
) -> Iterator[Prompt]:
    """What `ioi` or `ordinary` (the `kind`) gives, one by one.

    Raises:
        PromptError: see `ioi`; raised when the first prompt is asked for.
    """
    if n < 1:
        raise PromptError(f"{kind}: {n} prompts are asked for; give 1 or more")
    if tokenizer is None:
        raise PromptError(f"{kind}: sentences need a tokenizer, and the model has none; give prompts as token ids")
    generate = {"ioi": language.stream_ioi, "ordinary": language.stream_ordinary}[kind]
    given = passed_over = 0
    try:
        # Without end: how many are passed over cannot be known before.
        for made in generate(sys.maxsize, tokenizer, seed=seed):
            if longest is not None and len(made.tokens) > longest:
                passed_over += 1
                if passed_over == TRIES:
                    raise PromptError(
                        f"{kind}: {TRIES} sentences on end have more than the {longest} tokens that the model reads; "
                        "give prompts of your own in a file"
                    )
                continue
            passed_over = 0
            yield Prompt(made.id, made.tokens, made.strings, dict(made.roles), made.answer, made.distractor, made.text)
            given += 1
            if given == n:
                return
    except TokenizerError as error:
        raise PromptError(f"{kind}: {error}") from None


def text(path: str | Path, length: int, tokenizer: Tokenizer | None) -> list[Prompt]:
    """A text file cut into prompts of `length` tokens; a shorter rest at the end is left out.

    Raises:
        PromptError: the file is missing, not UTF-8 or shorter than one prompt, or there is no tokenizer.
    """
    if length < 1:
        raise PromptError(f"{path}: prompts of {length} tokens are asked for; give a length of 1 or more")
    if tokenizer is None:
        raise PromptError(f"{path}: running text needs a tokenizer, and the model has none; give prompts as token ids")
    try:
        content = path_of(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror}); give a text file") from None
    except UnicodeDecodeError as error:
        raise PromptError(f"{path}: not valid UTF-8 at byte {error.start}; save it as UTF-8") from None
    try:
        ids = tokenizer.encode(content)
    except TokenizerError as error:
        raise PromptError(f"{path}: {error}") from None
    if len(ids) < length:
        raise PromptError(f"{path}: has {len(ids)} tokens, fewer than one prompt of {length}; give a smaller length")
    pieces = [tuple(ids[start : start + length]) for start in range(0, len(ids) - length + 1, length)]
    return [
        Prompt(f"text-{number}", piece, tuple(tokenizer.strings(piece)), text=tokenizer.decode(piece))
        for number, piece in enumerate(pieces)
    ]
