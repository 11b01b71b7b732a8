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

from svdtrace.surroundings.help_words import described
from svdtrace.surroundings.objections import understood
from svdtrace.surroundings.pages import reference
from svdtrace.surroundings.telling import ended

PROGRAM = "weights-tools"
DESCRIPTION = """Get, check, convert and make the models that svdtrace traces; no pickle file is ever opened.

Start with a model of the hub: `weights-tools download openai-community/gpt2`

What is in a folder, and what it is enough for: `weights-tools inspect FOLDER`

Help on a command, with examples: `weights-tools convert --help`

Completion of commands and options by the tab key, in bash: `eval "$(weights-tools --tyro-print-completion bash)"`
"""
SECTIONS = {"inspect": "sections 1 and 2"}
"""What of METHOD.md a command computes."""
PAGE, PAGES = "weights.md", {"plant": "truth.md"}
"""The page that says more of a command, and of some their own."""
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
    return understood(lambda: _union(arguments), PROGRAM, DESCRIPTION, COMMANDS, arguments)


def _union(arguments: Sequence[str]) -> Any:
    """All commands' options as one type."""
    choices: list[Any] = []
    for name in COMMANDS:
        options = import_module(f"{__name__}.{name}").Options
        description = described(options, references(name), whole=list(arguments[:1]) == [name])
        choices.append(Annotated[options, tyro.conf.subcommand(name, description=description)])
    return reduce(or_, choices)


def references(command: str) -> list[str]:
    """Lines for a command's help with links that open: the mathematics, and what its output means."""
    page = PAGES.get(command, PAGE)
    lines = [reference(f"What is computed: METHOD.md, {SECTIONS[command]}", "METHOD.md")] if command in SECTIONS else []
    return [*lines, reference(f"What it means: {page}", page)]
