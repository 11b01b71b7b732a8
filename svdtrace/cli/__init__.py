"""The command `svdtrace`: one module per command, each a frozen dataclass of options and a function `run`.

Numerics are imported when a command runs, so that `svdtrace --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from svdtrace.errors import SvdtraceError

DONE, CANNOT, INTERRUPTED = 0, 2, 130
DEBUG_VARIABLE = "SVDTRACE_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit status: 0 done, 1 found wanting, 2 cannot (one line `error: …` on standard error), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more while closing it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        return tell(error)


def tell(error: BaseException) -> int:
    """Say on one line of standard error why a command ended early; the exit status.

    Raises:
        BaseException: the error itself, where it is to be seen whole.
    """
    if isinstance(error, KeyboardInterrupt):
        print("interrupted; nothing unfinished was kept", file=sys.stderr)
        return INTERRUPTED
    if os.environ.get(DEBUG_VARIABLE):
        raise error
    print(f"error: {one_line(error)}", file=sys.stderr)
    return CANNOT


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


def one_line(error: BaseException) -> str:
    """What went wrong, on one line; an error that nobody foresaw says so."""
    text = " ".join(str(error).split())
    if _on_purpose(error):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'standard output'}: {error.strerror}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return "out of memory; give fewer or shorter prompts, or a smaller --batch-size"
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"unforeseen {reason}; this is a defect of svdtrace, {DEBUG_VARIABLE}=1 shows where"


def _on_purpose(error: BaseException) -> bool:
    # Importing gpt2jax only to ask would load JAX; where it raised, it is loaded.
    gpt2jax_errors = sys.modules.get("gpt2jax.errors")
    bases = (SvdtraceError, gpt2jax_errors.GPT2JaxError) if gpt2jax_errors is not None else (SvdtraceError,)
    return isinstance(error, bases)
