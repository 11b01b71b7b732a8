"""A bar that shows on standard error how far something is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from svdtrace.surroundings.streams import on_terminal


class Advance(Protocol):
    """Moves a bar: what is done, how much there is in all, and what is done now, where that changes."""

    def __call__(self, done: int, total: int | None, now: str | None = None, /) -> None:
        """Show how far it is."""


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Advance | None]:
    """A bar with its title, counts and times; `None` where standard error is no terminal."""
    if not on_terminal(sys.stderr):
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

    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    says, counts = TextColumn("{task.description}", markup=False), MofNCompleteColumn()
    columns = (says, BarColumn(), counts, TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(title, total=total)

        def advance(done: int, total: int | None, now: str | None = None, /) -> None:
            shown.update(task, completed=done, total=total, description=now or title)

        yield advance
