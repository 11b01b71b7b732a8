"""From arguments to one command's options."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from importlib import import_module
from operator import or_
from typing import Annotated, Any

import tyro

from svdtrace.cli.options import PROGRAM
from svdtrace.cli.references import references
from svdtrace.config import TraceConfig
from svdtrace.surroundings.help_words import described
from svdtrace.surroundings.objections import understood

COMMANDS = (
    "demo",
    "tokens",
    "decompose",
    "atlas",
    "trace",
    "why",
    "graph",
    "report",
    "circuit",
    "compare",
    "characterise",
    "intervene",
    "patch",
    "reproduce",
    "sweep",
    "query",
    "bench",
    "score-truth",
    "verify",
)
"""Every command; the module of that name in `svdtrace.cli`, with _ for -, holds its options, `Options`, and its
function, `run`.
"""

DESCRIPTION = """Which attention heads of a GPT-2 talk to which, and through how few dimensions.

Start with `svdtrace demo`. Version: `svdtrace --version`. Help on a command, with examples: `svdtrace trace --help`

Decompositions (57 MB for GPT-2 small, 984 MB for XL) and compiled programs are kept in ~/.cache/svdtrace, at most 4 GB
of each; SVDTRACE_CACHE names another place (empty: none), SVDTRACE_CACHE_GB another bound.

Completion of commands and options by the tab key, in bash: `eval "$(svdtrace --tyro-print-completion bash)"`
"""


def parse(arguments: Sequence[str]) -> Any | None:
    """The options of the command that the arguments name; `None` where help was asked for and given.

    Raises:
        OptionError: arguments that cannot be understood.
        SettingError: a `--config` file or a setting that cannot be used.
    """
    return understood(lambda: _union(arguments), PROGRAM, DESCRIPTION, COMMANDS, arguments)


def _union(arguments: Sequence[str]) -> Any:
    """All commands' options as one type; a file of settings gives their defaults."""
    settings = _settings(arguments)
    choices = []
    for name in COMMANDS:
        options = import_module(f"svdtrace.cli.{name.replace('-', '_')}").Options
        configured = getattr(options, "configured", None)
        default = configured(settings) if settings is not None and configured is not None else tyro.MISSING_NONPROP
        description = described(options, references(name), whole=arguments[:1] == [name])
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
