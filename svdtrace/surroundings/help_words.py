"""Help without types of Python: what an option's value is called, what holds where nothing is said, where lines end."""

from __future__ import annotations

import dataclasses
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from inspect import cleandoc
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, StructConstructorSpec, StructFieldSpec

WORDS = {"INT": "N", "FLOAT": "X", "STR": "TEXT"}
"""What values are called that have no name of their own."""
WIDEST = 100
_TYPE = re.compile(rf"\b({'|'.join(WORDS)})\b")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_BOX, _EMPTY = re.compile(r"[╭│╰|+]"), re.compile(r"[│|] +[│|]$")
_LEADS_TO = re.compile(r"^(.*[:?]) (?:`([^`]*)`|(file://\S+))$")
_COMMANDS = re.compile(r"^(.*usage:.* )\{\S+\}(.*)$")


def in_words() -> ConstructorRegistry:
    """What `tyro.cli` takes as its `registry`."""
    registry = ConstructorRegistry()
    registry.primitive_rule(_after_the_others(ConstructorRegistry.get_primitive_spec, _named))
    registry.struct_rule(_after_the_others(ConstructorRegistry.get_struct_spec, _told))
    return registry


def described(options: type, references: Sequence[str], whole: bool) -> str:
    """What is said of a command: where the commands are listed its first paragraph, in its own help all, examples too.

    Args:
        references: further paragraphs, with links.
    """
    text = cleandoc(options.__doc__ or "").split("\n\nArgs:\n", 1)[0]
    paragraphs = [" ".join(each.split()) for each in text.split("\n\n")]
    return "\n\n".join((*paragraphs, *references)) if whole else paragraphs[0]


def folded(text: str) -> str:
    """Help whose text keeps to the terminal's width, as its boxes do.

    A command or a link at the end of a paragraph stands on a line of its own and stays whole, to be copied.
    """
    width = min(shutil.get_terminal_size().columns, WIDEST)
    return "".join(f"{line}\n" for each in text.splitlines() for line in _lines(each, width))


def in_a_word(kind: str) -> str:
    """What a value is called: N|auto for INT|{auto}."""
    name = _TYPE.sub(lambda found: WORDS[found[0]], kind)
    return name.replace("{", "").replace("}", "") if "|" in name else name


def _lines(line: str, width: int) -> list[str]:
    plain = _COLOUR.sub("", line)
    if _BOX.match(plain) or not line:
        # Where a default is not told, the space before it may have taken a line.
        return [] if _EMPTY.match(plain) else [line]
    line = _COMMANDS.sub(r"\1COMMAND …\2", line)
    leads = _LEADS_TO.match(line)
    said = textwrap.wrap(leads[1] if leads else line, width, break_long_words=False, break_on_hyphens=False)
    return [*said, f"  {leads[2] or leads[3]}"] if leads else said


def _after_the_others(answer: Callable[[Any], Any], change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A rule that changes what all other rules say."""
    asked = False

    def rule(about: Any) -> Any:
        nonlocal asked
        if asked:
            return None
        asked = True
        try:
            said = answer(about)
        finally:
            asked = False
        return change(said)

    return rule


def _named(said: Any) -> Any:
    return (
        dataclasses.replace(said, metavar=in_a_word(said.metavar))
        if isinstance(said, PrimitiveConstructorSpec)
        else said
    )


def _told(said: Any) -> Any:
    if not isinstance(said, StructConstructorSpec):
        return said
    return dataclasses.replace(said, fields=tuple(map(_field, said.fields)))


def _field(said: StructFieldSpec) -> StructFieldSpec:
    """An option whose docstring is one paragraph, and whose default, if it is a flag's, is an option or nothing."""
    text = said.helptext

    def joined() -> str | None:
        found = text() if callable(text) else text
        return None if found is None else " ".join(found.split())

    kind: Any = said.type
    if isinstance(said.default, bool):
        both = tyro.conf.FlagCreatePairsOff not in getattr(kind, "__metadata__", ())
        option = f"--{'' if said.default else 'no-'}{said.name.replace('_', '-')}"
        hint = tyro.conf.arg(help_behavior_hint=f"(default: {option})" if both else "")
        kind = Annotated[kind, hint]
    return dataclasses.replace(said, type=kind, helptext=joined)
