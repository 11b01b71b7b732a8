"""What the parser of arguments objects to, as one line instead of a box."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import tyro

from svdtrace.errors import OptionError
from svdtrace.surroundings.help_words import folded, in_a_word, in_words

_FRAME = "│╭╮╰╯|+ "
_RULE = re.compile(r"^[─-]{4,}$")
_ASIDE = re.compile(r" \(applied to [^)]*\)| Arguments are applied to .*| Got errors: .*")
_NO_TYPE = re.compile(r"no type matching (\S+) could be instantiated from \[(.*)\]")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def understood(
    options: Callable[[], Any], program: str, description: str, commands: Collection[str], arguments: Sequence[str]
) -> Any:
    """The options that arguments mean; `None` where help was asked for and given.

    Args:
        options: gives the type of all commands' options.
        program: its name.
        description: what its own help says of it.
        commands: the names of its commands.
        arguments: what it is given.

    Raises:
        OptionError: arguments that cannot be understood.
    """
    _check_empty(program, commands, arguments)
    asks = bool({"-h", "--help"} & set(arguments))
    said, told = io.StringIO(), _Told(sys.stdout)
    try:
        with _unwrapped(asks), contextlib.redirect_stderr(said), contextlib.redirect_stdout(told):
            return tyro.cli(options(), prog=program, description=description, args=list(arguments), registry=in_words())
    except SystemExit as stop:
        if not stop.code:
            sys.stdout.write(folded(told.getvalue()) if asks else told.getvalue())
            return None
        raise OptionError(_sentence(said.getvalue(), program, commands, arguments)) from None


class _Told(io.StringIO):
    """What is printed, kept; a terminal of the same characters as the stream in whose place it stands."""

    def __init__(self, stream: Any) -> None:
        super().__init__()
        self._stream = stream

    @property
    def encoding(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding

    def isatty(self) -> bool:
        return self._stream.isatty()


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
def _unwrapped(asks: bool) -> Iterator[None]:
    """Let the parser's objections stand on as few lines as they have, but help that is asked for fit the terminal."""
    before = os.environ.get("COLUMNS")
    if not asks:
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
    said = _NO_TYPE.sub(lambda found: f"expected {in_a_word(found[1])}, found {found[2]}", said)
    near = [each[1].split()[0] for each in paragraphs[1:] if each[:1] == ["Perhaps you meant:"] and len(each) > 1]
    command = arguments[0] if arguments and arguments[0] in commands else None
    if command is None and arguments:
        near = get_close_matches(arguments[0], commands, n=1)
    hint = f"did you mean {near[0]}? " if near and near[0] not in arguments else ""
    return f"{said[0].lower()}{said[1:]}; {hint}see {program}{f' {command}' if command else ''} --help"
