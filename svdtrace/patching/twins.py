"""Prompts and their corrupted twins, token by token of the same length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from svdtrace.errors import OptionError, PromptError
from svdtrace.prompts.prompt import Prompt


def swapped(prompts: Sequence[Prompt], swap: str) -> list[Prompt]:
    """The prompts with one role's token in another's place.

    Args:
        swap: `S2=IO` puts the token at IO where S2 stands, so that a sentence about one name is about the other.

    Raises:
        OptionError: no such text.
        PromptError: a prompt without one of the roles.
    """
    at, equals, source = (part.strip() for part in swap.partition("="))
    if not (at and equals and source):
        raise OptionError(f'--swap is "{swap}"; give ROLE=ROLE, for example S2=IO')
    found = []
    for number, prompt in enumerate(prompts):
        for role in (at, source):
            if role not in prompt.roles:
                known = ", ".join(prompt.roles) or "none"
                raise PromptError(
                    f'{_named(number, prompt)}: has no role "{role}" to swap (its roles: {known}); name others by '
                    "--swap, or give the corrupted prompts by --corrupt"
                )
        tokens, strings = list(prompt.tokens), list(prompt.strings)
        place, other = prompt.roles[at], prompt.roles[source]
        tokens[place], strings[place] = tokens[other], strings[other]
        found.append(replace(prompt, tokens=tuple(tokens), strings=tuple(strings), text=None))
    return found


def paired(prompts: Sequence[Prompt], corrupt: Sequence[Prompt]) -> None:
    """Check that prompts and their twins can be patched into each other.

    Raises:
        PromptError: another number of prompts, another length, or nothing that is asked.
    """
    if len(prompts) != len(corrupt):
        raise PromptError(f"{len(corrupt)} corrupted prompts for {len(prompts)}; give one for each, in the same order")
    for number, (prompt, twin) in enumerate(zip(prompts, corrupt, strict=True)):
        if len(prompt.tokens) != len(twin.tokens):
            raise PromptError(
                f"{_named(number, prompt)}: has {len(prompt.tokens)} tokens, its corrupted twin {len(twin.tokens)}; "
                "give twins of the same length, since values are patched token by token"
            )
        if prompt.answer is None or prompt.distractor is None:
            raise PromptError(
                f"{_named(number, prompt)}: lacks an answer or a distractor, whose logits are measured; give both"
            )


def _named(number: int, prompt: Prompt) -> str:
    place = number if prompt.place is None else prompt.place
    return f"prompt {place}" if prompt.id is None else f'prompt {place} ("{prompt.id}")'
