"""A bar that shows on standard error, or in a notebook, how far something is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from svdtrace.surroundings.streams import on_terminal


class Advance(Protocol):
    """Moves a bar: what is done, how much there is in all, and what is done now, where that changes."""

    def __call__(self, done: int, total: int | None, now: str | None = None, /) -> None:
        """Show how far it is."""


@contextmanager
def progressing(progress: Callable[..., None] | bool | None, title: str) -> Iterator[Callable[..., None] | None]:
    """What a function that was given `progress` calls: that itself, or a bar of its own for True.

    Until the first call the bar says that programs are compiled: that is what takes long before it.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        with bar(title, first="compiling") as advance:
            yield advance


def naming(progress: Callable[[int, int, str], None] | None, now: str) -> Callable[[int, int], None] | None:
    """Tell of one of several things that are done: what is done of it, all of it, and what it is."""
    return None if progress is None else lambda done, total: progress(done, total, now)


def in_notebook() -> bool:
    """Whether a notebook's kernel runs this."""
    return "ipykernel" in sys.modules and hasattr(sys.modules["ipykernel"], "kernelapp")


@contextmanager
def bar(title: str, total: int | None = None, first: str = "") -> Iterator[Advance | None]:
    """A bar with its title, counts and times; `None` where there is neither a terminal nor a notebook.

    Args:
        total: how much there is, where that is known.
        first: what takes the time until something is done.
    """
    if not on_terminal(sys.stderr) and not in_notebook():
        yield None
        return
    # Imported late: most commands are not run at a terminal, or end before anything takes time.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=not in_notebook(), markup=False, emoji=False, highlight=False)
    says, counts = TextColumn("{task.description}", markup=False), MofNCompleteColumn()
    columns = (says, BarColumn(), counts, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(f"{first}; {title}" if first else title, total=total)

        def advance(done: int, total: int | None, now: str | None = None, /) -> None:
            shown.update(task, completed=done, total=total, description=now or title)

        yield advance
