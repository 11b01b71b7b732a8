"""Prompts as a program hands them over: a list of them, however they come, or a word about what they are instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from svdtrace.errors import PromptError
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.values import check_name

_TEXTS = "make prompts of texts with svdtrace.prompts.from_texts([…], model.tokenizer)"
_SOURCE = "read a file with svdtrace.prompts.read(SOURCE, model.tokenizer, config=model.config)"
_RECORDS = "make prompts of records with svdtrace.prompts.from_records([…], model.tokenizer)"


def listed(prompts: Iterable[Prompt] | Prompt) -> list[Prompt]:
    """All prompts: of a list, a generator, or a single one.

    Raises:
        PromptError: see `one_by_one`.
    """
    return list(one_by_one(prompts))


def one_by_one(prompts: Iterable[Prompt] | Prompt) -> Iterator[Prompt]:
    """The prompts one by one.

    Raises:
        PromptError: something else than prompts is given, or a name of one cannot be written.
    """
    if isinstance(prompts, Prompt):
        prompts = [prompts]
    if isinstance(prompts, str | bytes):
        raise PromptError(f"prompts are the text {prompts!r:.60}; {_TEXTS}, or {_SOURCE}")
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise PromptError(f"prompts are of the kind {_kind(prompts)}; give a list of prompts: {_SOURCE}")
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, Prompt):
            raise PromptError(f"prompt {place} is of the kind {_kind(prompt)}, no prompt; {_instead_of(prompt)}")
        try:
            if prompt.id is not None:
                check_name("id", prompt.id)
            for role in prompt.roles:
                check_name("the name of a role", role)
        except PromptError as error:
            raise PromptError(f"prompt {place}: {error}") from None
        yield prompt


def several(given: Any, what: str, kind: type[PromptError] | type[Exception] = PromptError) -> list[Any]:
    """A list of what a function takes several of; one string is one of it, not its letters.

    Args:
        given: a string, or strings in a list, a generator, ….
        what: it is, for the message.
        kind: the error to raise.

    Raises:
        Exception: of the `kind`: nothing that could be gone through.
    """
    if isinstance(given, str):
        return [given]
    if isinstance(given, bytes | Mapping) or not isinstance(given, Iterable):
        raise kind(f"{what} are of the kind {_kind(given)}; give a list of them")
    return list(given)


def _kind(value: Any) -> str:
    return "None" if value is None else type(value).__name__


def _instead_of(value: Any) -> str:
    return _RECORDS if isinstance(value, Mapping) else _TEXTS if isinstance(value, str) else _SOURCE
