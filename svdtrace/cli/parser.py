"""From arguments to one command's options; what the parser objects to becomes one line."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any

import tyro

from svdtrace.cli.options import PROGRAM
from svdtrace.config import TraceConfig
from svdtrace.errors import OptionError

COMMANDS = (
    "demo",
    "tokens",
    "decompose",
    "trace",
    "graph",
    "report",
    "circuit",
    "characterise",
    "intervene",
    "reproduce",
    "sweep",
    "query",
    "bench",
)
"""Every command; the module of that name in `svdtrace.cli` holds its options, `Options`, and its function, `run`."""

DESCRIPTION = """Which attention heads of a GPT-2 talk to which, and through how few dimensions.

Start with `svdtrace demo`. Help on a command, with examples: `svdtrace trace --help`. Version: `svdtrace --version`.
"""
_RULE = re.compile(r"^[─-]{4,}$")
_ASIDE = re.compile(r" \(applied to [^)]*\)| Arguments are applied to .*| Got errors: .*")


def parse(arguments: Sequence[str]) -> Any | None:
    """The options of the command that the arguments name; `None` where help was asked for and given.

    Raises:
        OptionError: arguments that cannot be understood.
        SettingError: a `--config` file or a setting that cannot be used.
    """
    shown = io.StringIO()
    try:
        with _unwrapped(arguments), contextlib.redirect_stderr(shown):
            return tyro.cli(_union(arguments), prog=PROGRAM, description=DESCRIPTION, args=list(arguments))
    except SystemExit as stop:
        if not stop.code:
            return None
        raise OptionError(_message(shown.getvalue(), arguments)) from None


def _union(arguments: Sequence[str]) -> Any:
    """All commands' options as one type; a file of settings gives their defaults."""
    settings = _settings(arguments)
    choices = []
    for name in COMMANDS:
        options = import_module(f"svdtrace.cli.{name}").Options
        configured = getattr(options, "configured", None)
        default = configured(settings) if settings is not None and configured is not None else tyro.MISSING_NONPROP
        # The list of commands has a line for each; a command's own help has its examples too.
        description = None if arguments[:1] == [name] else options.__doc__.split("\n", 1)[0]
        choices.append(Annotated[options, tyro.conf.subcommand(name, default=default, description=description)])
    return reduce(or_, choices)


def _settings(arguments: Sequence[str]) -> TraceConfig | None:
    """The settings of the file after `--config`, read first so that options given beside it override them."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--config" and equals:
            return TraceConfig.from_file(value)
        if name == "--config" and place + 1 < len(arguments):
            return TraceConfig.from_file(arguments[place + 1])
    return None


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


def _message(box: str, arguments: Sequence[str]) -> str:
    """What the parser's box says: its first paragraph, and the nearest name where there is one."""
    lines = [line.strip("│╭╮╰╯ ").strip() for line in box.splitlines()[1:]]
    paragraphs: list[list[str]] = [[]]
    for line in lines:
        if _RULE.match(line):
            paragraphs.append([])
        elif line:
            paragraphs[-1].append(line)
    paragraphs = [paragraph for paragraph in paragraphs if paragraph] or [["the options cannot be understood"]]
    said = _ASIDE.sub("", " ".join(paragraphs[0])).strip().rstrip(".")
    near = [each[1].split()[0] for each in paragraphs[1:] if each[:1] == ["Perhaps you meant:"] and len(each) > 1]
    command = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if command is None and arguments:
        near = get_close_matches(arguments[0], COMMANDS, n=1)
    hint = f"did you mean {near[0]}? " if near and near[0] not in arguments else ""
    return f"{said[0].lower()}{said[1:]}; {hint}see {PROGRAM}{f' {command}' if command else ''} --help"
