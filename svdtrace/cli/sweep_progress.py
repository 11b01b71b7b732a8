"""How far a sweep is, on standard error: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from svdtrace.cli import terminal
from svdtrace.cli.options import Voice
from svdtrace.surroundings.streams import on_terminal

if TYPE_CHECKING:
    from svdtrace.sweeping.telling import Progress, Start, Told


@contextmanager
def shown(voice: Voice, source: str, out: Path, total: int | None) -> Iterator[Told]:
    """Progress on standard error: a bar on a terminal, lines elsewhere, nothing with `--quiet`."""
    from svdtrace.sweeping.telling import Told, silent

    if voice.quiet:
        yield Told(silent, silent)
    elif on_terminal(sys.stderr):
        with _bar(total) as told:
            yield told
    else:
        many = "" if total is None else f"{total:,} prompts of "
        with _lines(f"sweeping {many}{source} into {out}", total) as told:
            yield told


def speeds(progress: Progress) -> tuple[float, float]:
    """Prompts and firings a second, of what this run did."""
    seconds = max(progress.seconds, 1e-9)
    done, earlier = progress.done, progress.earlier
    prompts = done.prompts + progress.underway - earlier.prompts
    return round(prompts / seconds, 1), round((done.firings - earlier.firings) / seconds, 1)


def _found(start: Start, total: int | None) -> str:
    """What a sweep that goes on has found."""
    there = start.there.prompts + start.there.rejected
    all_parts = ""
    if not start.left:
        all_parts = f" of {start.parts:,}"
    elif total and there:
        # Where parts are measured, how many there will be is known only when all are made.
        many = -(-total * start.parts // there) if start.measured else -(-total // start.part_size)
        all_parts = f" of {'about ' if start.measured else ''}{many:,}"
    after = "goes on from there" if start.left else "nothing is left to do"
    return f"found {start.parts:,}{all_parts} parts, {there:,} prompts; {after}"


@contextmanager
def _bar(total: int | None) -> Iterator[Told]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from svdtrace.sweeping.telling import Told

    rates = TextColumn("{task.fields[rates]}")
    columns = (TextColumn("sweeping"), BarColumn(), MofNCompleteColumn(), rates, TimeElapsedColumn())
    with Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sweeping", total=total, rates="")

        def started(start: Start) -> None:
            if start.parts:
                bar.console.print(_found(start, total), markup=False, highlight=False)

        def show(progress: Progress) -> None:
            prompts, firings = speeds(progress)
            bar.update(task, completed=progress.prompts, rates=f"{prompts:,.0f} prompts/s, {firings:,.0f} firings/s")

        yield Told(started, show)


@contextmanager
def _lines(title: str, total: int | None) -> Iterator[Told]:
    """A line when all is checked, and one a minute, whatever takes so long."""
    from svdtrace.sweeping.telling import Told

    latest: list[Progress] = []
    began = time.monotonic()

    def started(start: Start) -> None:
        print(_found(start, total) if start.parts else title, file=sys.stderr, flush=True)

    def said() -> str:
        return _line(latest[-1], total) if latest else f"getting ready since {time.monotonic() - began:,.0f} s"

    def show(progress: Progress) -> None:
        latest[:] = [progress]

    with terminal.lines(said, terminal.LINE_EVERY):
        yield Told(started, show)


def _line(progress: Progress, total: int | None) -> str:
    prompts, firings = speeds(progress)
    of = f" of {total:,}" if total else ""
    left = f", {(total - progress.prompts) / prompts:,.0f} s left" if total and prompts else ""
    return f"{progress.prompts:,}{of} prompts, {prompts:,.0f} prompts/s, {firings:,.0f} firings/s{left}"
