"""What the parser of arguments objects to, as one line instead of a box."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from svdtrace.errors import OptionError

_FRAME = "│╭╮╰╯|+ "
_RULE = re.compile(r"^[─-]{4,}$")
_ASIDE = re.compile(r" \(applied to [^)]*\)| Arguments are applied to .*| Got errors: .*")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def understood(parse: Callable[[], Any], program: str, commands: Collection[str], arguments: Sequence[str]) -> Any:
    """What a parser makes of arguments; `None` where help was asked for and given.

    Args:
        parse: calls `tyro.cli`.
        program: its name, for the way out.
        commands: the names of its commands.
        arguments: what it is given.

    Raises:
        OptionError: arguments that cannot be understood.
    """
    _check_empty(program, commands, arguments)
    said = io.StringIO()
    try:
        with _unwrapped(arguments), contextlib.redirect_stderr(said):
            return parse()
    except SystemExit as stop:
        if not stop.code:
            return None
        raise OptionError(_sentence(said.getvalue(), program, commands, arguments)) from None


def _check_empty(program: str, commands: Collection[str], arguments: Sequence[str]) -> None:
    """An empty argument is a variable that nobody set; as a folder it would be the current one.

    Raises:
        OptionError: there is one, but for a text.
    """
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        before = arguments[place - 1] if place else program
        where = option if option.startswith("--") and equals and not value else "" if argument else before
        if where and where != "--text":
            command = f" {arguments[0]}" if arguments[0] in commands else ""
            what = where if where.startswith("--") else f"what follows {where}"
            raise OptionError(f"{what} is empty; give a value, or leave it out; see {program}{command} --help")


@contextlib.contextmanager
def _unwrapped(arguments: Sequence[str]) -> Iterator[None]:
    """Let the parser's objections stand on as few lines as they have, but help fit the terminal."""
    before = os.environ.get("COLUMNS")
    if not {"-h", "--help"} & set(arguments):
        os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        os.environ.pop("COLUMNS", None)
        if before is not None:
            os.environ["COLUMNS"] = before


def _sentence(box: str, program: str, commands: Collection[str], arguments: Sequence[str]) -> str:
    """What the parser's box says: its first paragraph, and the nearest name where there is one."""
    paragraphs: list[list[str]] = [[]]
    for line in (each.strip(_FRAME) for each in _COLOUR.sub("", box).splitlines()[1:]):
        if _RULE.match(line):
            paragraphs.append([])
        elif line:
            paragraphs[-1].append(line)
    paragraphs = [paragraph for paragraph in paragraphs if paragraph] or [["the options cannot be understood"]]
    said = _ASIDE.sub("", " ".join(paragraphs[0])).strip().rstrip(".")
    near = [each[1].split()[0] for each in paragraphs[1:] if each[:1] == ["Perhaps you meant:"] and len(each) > 1]
    command = arguments[0] if arguments and arguments[0] in commands else None
    if command is None and arguments:
        near = get_close_matches(arguments[0], commands, n=1)
    hint = f"did you mean {near[0]}? " if near and near[0] not in arguments else ""
    return f"{said[0].lower()}{said[1:]}; {hint}see {program}{f' {command}' if command else ''} --help"
