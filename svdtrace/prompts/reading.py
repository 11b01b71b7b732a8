"""Reading prompts: any source in, checked prompts out; every failure names file and line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from svdtrace.errors import PromptError
from svdtrace.prompts.listed import several
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.records import Limits, build
from svdtrace.prompts.sources import EmptyLineError, Placed, records

if TYPE_CHECKING:
    from gpt2jax.config import GPT2Config
    from gpt2jax.tokenizer import Tokenizer


def read(
    source: str,
    tokenizer: Tokenizer | None,
    *,
    config: GPT2Config | None = None,
    bos: bool = False,
    seed: int = 0,
) -> list[Prompt]:
    """All prompts of a source.

    Args:
        source: a `.jsonl`, `.jsonl.gz` or parquet file, a folder of them, `-` for standard input, or a generator:
            `ioi:N[:SEED]`, `ordinary:N[:SEED]`, `text:FILE:LENGTH`. Of a folder names with "." or "_" in front are
            left out; of a file empty lines, which take a place (`Prompt.place`) all the same.
        tokenizer: the model's; None if every prompt is given as ids.
        config: the model's; its context length and vocabulary are then checked.
        bos: put the beginning-of-text token first and move the roles by one.
        seed: of generators that name none.

    Returns:
        One prompt or more.

    Raises:
        PromptError: the source or one of its prompts cannot be used, or it holds none.
    """
    prompts = list(stream(source, tokenizer, config=config, bos=bos, seed=seed))
    if not prompts:
        raise PromptError(f"{_named(source)}: holds no prompts; give at least one")
    return prompts


def stream(
    source: str,
    tokenizer: Tokenizer | None,
    *,
    config: GPT2Config | None = None,
    bos: bool = False,
    seed: int = 0,
) -> Iterator[Prompt]:
    """The prompts of a source one by one, as `read` gives them; a source without prompts gives none.

    Raises:
        PromptError: see `read`; raised when the prompt concerned is reached.
    """
    limits = Limits.of(tokenizer, config, bos)
    return _checked(records(str(source), tokenizer, seed, limits.longest), limits)


def from_texts(
    texts: Iterable[str] | str, tokenizer: Tokenizer | None, *, config: GPT2Config | None = None, bos: bool = False
) -> list[Prompt]:
    """One prompt for each text, without roles; a single string is one text.

    Raises:
        PromptError: there is no tokenizer, or a text is empty or too long.
    """
    placed = ((f"text {number}", {"text": text}) for number, text in enumerate(several(texts, "texts"), 1))
    return list(_checked(placed, Limits.of(tokenizer, config, bos)))


def from_records(
    records: Iterable[Mapping[str, Any]],
    tokenizer: Tokenizer | None,
    *,
    config: GPT2Config | None = None,
    bos: bool = False,
) -> list[Prompt]:
    """One prompt for each record, such as `{"text": "When Mary …", "roles": {"IO": 1}}`, read as a line of a file is.

    Raises:
        PromptError: a record cannot be used; the message counts them from 1.
    """
    given = [records] if isinstance(records, Mapping) else several(records, "records")
    placed = ((f"record {number}", record) for number, record in enumerate(given, 1))
    return list(_checked(placed, Limits.of(tokenizer, config, bos)))


def _checked(placed: Iterable[Placed], limits: Limits) -> Iterator[Prompt]:
    """Prompts from records, with the place put before what is wrong and ids checked to be unique."""
    first_places: dict[str, str] = {}
    for number, (place, record) in enumerate(placed):
        if isinstance(record, EmptyLineError):
            continue
        try:
            prompt = replace(build(record, limits), place=number)
        except PromptError as error:
            raise PromptError(f"{place}: {error}") from None
        if prompt.id is not None:
            if prompt.id in first_places:
                raise PromptError(
                    f'{place}: id "{prompt.id}" was used before, at {first_places[prompt.id]}; rename one'
                )
            first_places[prompt.id] = place
        yield prompt


def _named(source: str) -> str:
    return "standard input" if str(source) == "-" else str(source)
