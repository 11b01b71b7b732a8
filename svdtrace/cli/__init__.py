"""The command `svdtrace`: one module per command, each a frozen dataclass of options and a function `run`.

Numerics are imported when a command runs, so that `svdtrace --help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from svdtrace.surroundings.telling import CANNOT, DEBUG_VARIABLE, INTERRUPTED, ended, one_line, tell

DONE = 0

__all__ = ["CANNOT", "DEBUG_VARIABLE", "DONE", "INTERRUPTED", "main", "one_line", "tell"]


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
    if arguments[:1] == ["--version"]:
        from svdtrace.results.versions import versions

        print(f"svdtrace {versions()['version']}")
        return DONE
    from svdtrace.cli.parser import parse

    command = parse(arguments)
    if command is None:
        return DONE
    return import_module(type(command).__module__).run(command)
