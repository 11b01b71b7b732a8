"""`svdtrace tokens`: how the model's tokenizer cuts prompts, so that one sees what roles to name."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from svdtrace.cli.options import Flat, ModelChoice, PromptChoice, Voice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpt2jax.tokenizer import Tokenizer
    from svdtrace.prompts.prompt import Prompt

UNKNOWN = 8


@dataclass(frozen=True)
class Options:
    """Show the tokens of prompts with their positions, ids and roles.

    How a sentence is cut: `svdtrace tokens --text 'Then, Mary and John went to the shop.'`

    Where a file's roles stand: `svdtrace tokens --model FOLDER --prompts FILE`
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Print a table for each prompt."""
    from svdtrace.cli.loading import load_tokenizer, places_of, read_prompts
    from svdtrace.cli.terminal import console, print_json, table

    tokenizer, config = load_tokenizer(options.inputs)
    prompts = read_prompts(options.prompts, tokenizer, config)
    placed = list(zip(places_of(prompts), prompts, strict=True))
    _tell_unknown(placed, tokenizer)
    if options.voice.json:
        print_json({"command": "tokens", "prompts": [_plain(*each) for each in placed]})
        return 0
    terminal = console()
    for place, prompt in placed:
        name = f"prompt {place}" if prompt.id is None else f"prompt {place} ({prompt.id})"
        rows = [
            (position, token, _quoted(string), ", ".join(_roles_at(prompt, position)))
            for position, (token, string) in enumerate(zip(prompt.tokens, prompt.strings, strict=True))
        ]
        terminal.print(table(name, ("position", "id", "token", "roles"), rows, left=("token", "roles")))
        for label, token in (("answer", prompt.answer), ("distractor", prompt.distractor)):
            if token is not None:
                terminal.print(f"{label}: {token} {_text(token, tokenizer)}".rstrip())
    return 0


def _tell_unknown(placed: Sequence[tuple[int, Prompt]], tokenizer: Tokenizer | None) -> None:
    """Say which words a model cannot tell apart, since a trace would follow them as one."""
    from svdtrace.explaining.words import visible

    if tokenizer is None or tokenizer.unread:
        return
    for place, prompt in placed:
        words = [] if prompt.text is None else list(dict.fromkeys(tokenizer.unknown_words(prompt.text)))
        if words:
            named = ", ".join(_quoted(word) for word in words[:UNKNOWN])
            more = f" and {len(words) - UNKNOWN} more" if len(words) > UNKNOWN else ""
            have = (
                "has no token of its own: it becomes" if len(words) == 1 else "have no tokens of their own: they become"
            )
            print(
                visible(f"note: prompt {place}: {named}{more} {have} the token of all unknown words"), file=sys.stderr
            )


def _plain(place: int, prompt: Prompt) -> dict[str, Any]:
    return {
        "prompt": place,
        "id": prompt.id,
        "tokens": list(prompt.tokens),
        "strings": list(prompt.strings),
        "roles": prompt.roles,
        "answer": prompt.answer,
        "distractor": prompt.distractor,
    }


def _roles_at(prompt: Prompt, position: int) -> list[str]:
    return [role for role, place in prompt.roles.items() if place == position]


def _text(token: int, tokenizer: Tokenizer | None) -> str:
    return "" if tokenizer is None else _quoted(tokenizer.strings([token])[0])


def _quoted(string: str) -> str:
    """A token with its spaces visible and its line breaks written out."""
    return '"' + string.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
