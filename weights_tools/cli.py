"""The command `weights-tools`: what happens to checkpoint files, one subcommand each.

What runs a command is imported when it runs, with the libraries that it alone needs.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro

from gpt2jax.errors import GPT2JaxError
from weights_tools.recipe import Recipe

PROGRAM = "weights-tools"
DONE, CANNOT, INTERRUPTED = 0, 2, 130

_FRAME = "│╭╮╰╯ "
_RULE = re.compile(r"[─-]{4,}")


class OptionError(GPT2JaxError):
    """Arguments that cannot be understood."""


@dataclass(frozen=True, kw_only=True)
class Train(Recipe):
    """Train a small GPT-2 on sentences of our own making, measure it, and write it with its card.

    The defaults made the model that comes with svdtrace: weights-tools train --out mymodel

    Args:
        out: a new or empty folder for model.safetensors, config.json, tokenizer.json and README.md.
    """

    out: Path


def _train(options: Train) -> None:
    from weights_tools.train_command import run

    run(options.out, options.recipe())


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {"train": (Train, _train)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit status: 0 done, 2 cannot (one line `error: …` on standard error), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parse(arguments)
        if options is not None:
            next(run for kind, run in COMMANDS.values() if kind is type(options))(options)
    except KeyboardInterrupt:
        print("interrupted; nothing unfinished was kept", file=sys.stderr)
        return INTERRUPTED
    except (GPT2JaxError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return CANNOT
    return DONE


def parse(arguments: Sequence[str]) -> Any | None:
    """The options of the command that the arguments name; `None` where help was asked for and given.

    Raises:
        OptionError: arguments that cannot be understood.
    """
    # A second, hidden choice keeps the name of a single command from being left out.
    kinds: list[Any] = [
        Annotated[kind, tyro.conf.subcommand(name, description=_summary(kind, name, arguments))]
        for name, (kind, _) in COMMANDS.items()
    ]
    choice: Any = reduce(or_, [*kinds, Annotated[None, tyro.conf.Suppress]])
    said = io.StringIO()
    try:
        with _unwrapped(arguments), contextlib.redirect_stderr(said):
            return tyro.cli(choice, prog=PROGRAM, description="What happens to checkpoint files.", args=list(arguments))
    except SystemExit as stop:
        if not stop.code:
            return None
        raise OptionError(_first_paragraph(said.getvalue(), arguments)) from None


def _summary(kind: type, name: str, arguments: Sequence[str]) -> str | None:
    return None if list(arguments[:1]) == [name] else (kind.__doc__ or "").split("\n", 1)[0]


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


def _first_paragraph(box: str, arguments: Sequence[str]) -> str:
    """What the parser's box says first, as one line; without UTF-8 it has a rule below its title and no frame."""
    lines = [line.strip(_FRAME) for line in box.splitlines()[1:]]
    paragraphs: list[list[str]] = [[]]
    for line in filter(None, lines):
        if _RULE.fullmatch(line):
            paragraphs.append([])
        else:
            paragraphs[-1].append(line)
    said = next(filter(None, paragraphs), ["the arguments cannot be understood"])
    text = " ".join(said).rstrip(".")
    command = f" {arguments[0]}" if arguments and arguments[0] in COMMANDS else ""
    return f"{text[0].lower()}{text[1:]}; see {PROGRAM}{command} --help"
