"""Why a command ended early, on one line of standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from svdtrace.errors import SvdtraceError, SvdtraceWarning
from svdtrace.surroundings import jax_settings
from svdtrace.surroundings.streams import usable_streams, visible

CANNOT, INTERRUPTED = 2, 130
DEBUG_VARIABLE = "SVDTRACE_DEBUG"
MOST = 1200
"""Characters of a line; of a longer one its beginning and its end are told, where the place and the way out stand."""


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


def ended(work: Callable[[], int]) -> int:
    """A command's exit status, whatever comes: its own, or that of an error, told on one line."""
    with usable_streams(), warnings_as_notes():
        try:
            status = work()
            sys.stdout.flush()
            return status
        except (Exception, KeyboardInterrupt) as error:
            return tell(error)


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Within it a warning of ours is one line of standard error, without the place in the code that gave it."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, SvdtraceWarning):
                print(f"note: {visible(str(message))}", file=sys.stderr)
            else:
                others(message, category, *place, **more)

        warnings.showwarning = show
        yield


def one_line(error: BaseException) -> str:
    """What went wrong, on one line that any terminal shows; an error that nobody foresaw says so."""
    line = visible(" ".join(_reason(error).split()))
    return line if len(line) <= MOST else f"{line[: MOST * 2 // 3]} … {line[-MOST // 3 :]}"


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if _on_purpose(error):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'standard output'}: {error.strerror}"
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return "out of memory; give fewer or shorter prompts, or a smaller --batch-size"
    setting = jax_settings.blamed(error)
    if setting is not None:
        return setting
    reason = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"unforeseen {reason}; this is a defect of svdtrace, {DEBUG_VARIABLE}=1 shows where"


def _on_purpose(error: BaseException) -> bool:
    # Importing gpt2jax only to ask would load JAX; where it raised, it is loaded.
    gpt2jax_errors = sys.modules.get("gpt2jax.errors")
    bases = (SvdtraceError, gpt2jax_errors.GPT2JaxError) if gpt2jax_errors is not None else (SvdtraceError,)
    return isinstance(error, bases)
