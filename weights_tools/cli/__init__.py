"""The command `weights-tools`: one module a command, each a frozen dataclass of options and a function `run`.

What runs a command is imported when it runs, with the libraries that it alone needs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any

import tyro

from svdtrace.surroundings.objections import understood
from svdtrace.surroundings.telling import ended

PROGRAM = "weights-tools"
DONE, WANTING = 0, 1
COMMANDS = ("download", "inspect", "convert", "verify", "fingerprint", "train", "plant")
"""Every command; the module of that name here holds its options, `Options`, and its function, `run`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit status: 0 done, 1 found wanting, 2 cannot (one line `error: …` on standard error), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return ended(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    options = parse(arguments)
    return DONE if options is None else import_module(type(options).__module__).run(options)


def parse(arguments: Sequence[str]) -> Any | None:
    """The options of the command that the arguments name; `None` where help was asked for and given.

    Raises:
        OptionError: arguments that cannot be understood.
    """
    choices: list[Any] = []
    for name in COMMANDS:
        options = import_module(f"{__name__}.{name}").Options
        # The list of commands has a line for each; a command's own help has its examples too.
        description = None if list(arguments[:1]) == [name] else options.__doc__.split("\n", 1)[0]
        choices.append(Annotated[options, tyro.conf.subcommand(name, description=description)])
    choice: Any = reduce(or_, choices)

    def options() -> Any:
        return tyro.cli(choice, prog=PROGRAM, description="What happens to checkpoints.", args=list(arguments))

    return understood(options, PROGRAM, COMMANDS, arguments)
