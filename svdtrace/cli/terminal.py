"""What a command shows: progress on standard error, tables on standard output, or one JSON object."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console

from svdtrace.cli.fitting import FittingTable
from svdtrace.cli.options import PROGRAM, Voice
from svdtrace.surroundings.bars import Advance, bar
from svdtrace.surroundings.streams import on_terminal, visible

WIDTH_OF_A_FILE = 120
LINE_FIRST, LINE_EVERY = 2.0, 60.0
"""Seconds before the first line, and between lines, where standard error is no terminal."""


@contextmanager
def progress(title: str, voice: Voice, total: int | None = None, first: str = "compiling") -> Iterator[Advance | None]:
    """A bar on standard error, or lines after two seconds and then every minute where that is no terminal; `None` with
    `--quiet`. Until something is done the bar says what takes the time before it.
    """
    if voice.quiet:
        yield None
        return
    if on_terminal(sys.stderr):
        with bar(title, total, first) as advance:
            yield advance
        return
    latest = f"{first}; {title}" if first else title

    def say(done: int, total: int | None, now: str | None = None, /) -> None:
        nonlocal latest
        latest = f"{now or title}: {done:,}{'' if total is None else f' of {total:,}'}"

    with lines(lambda: latest, LINE_FIRST):
        yield say


@contextmanager
def lines(latest: Callable[[], str], first: float) -> Iterator[None]:
    """What is latest, as a line on standard error after so many seconds and then every minute, whatever takes long."""
    ended = Event()

    def tell() -> None:
        wait = first
        while not ended.wait(wait):
            print(latest(), file=sys.stderr, flush=True)
            wait = LINE_EVERY

    teller = Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def invoked() -> str:
    """How this command is called from here: by its name where the shell finds it, else by the path that was typed."""
    typed, found = sys.argv[0], shutil.which(PROGRAM)
    if Path(typed).name != PROGRAM or (found is not None and Path(found).samefile(typed)):
        return PROGRAM
    return typed


def print_json(content: dict[str, Any]) -> None:
    """One JSON object, alone on standard output; what its encoding lacks is escaped, so that nothing is lost."""
    whole = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
    print(json.dumps(content, ensure_ascii=not whole, allow_nan=False, indent=1))


class Output(Console):
    """Standard output. What is printed is shown as it is: no name in brackets or between colons means anything, and no
    character in it commands the terminal.
    """

    def __init__(self) -> None:
        width = None if on_terminal(sys.stdout) else WIDTH_OF_A_FILE
        super().__init__(width=width, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **settings: Any) -> None:
        """Print text, made visible, or what `table` gives."""
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **settings)

    def say(self, line: str) -> None:
        """One line, however long: a path in it is not cut in two."""
        self.print(line, soft_wrap=True)


def console() -> Output:
    """Standard output; in a file or pipe tables have a fixed width."""
    return Output()


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, left: Sequence[str] = ()
) -> FittingTable:
    """A titled table; numbers stand to the right, the columns named in `left` to the left. Nothing in it is markup."""
    return FittingTable(visible(title), columns, [[visible(str(value)) for value in row] for row in rows], left)


def tell_notes(where: str, notes: Sequence[str], voice: Voice) -> None:
    """Say on standard error, a line each, what was noticed about something and stops nothing."""
    if not voice.quiet:
        for note in notes:
            print(visible(f"note: {where}: {note}"), file=sys.stderr)


def tell_unfinished(manifest: Mapping[str, Any], voice: Voice) -> None:
    """Say on standard error that a sweep has not ended, where what is shown is of its first parts alone."""
    if not voice.quiet and manifest.get("sweep", {}).get("complete") is False:
        so_far = counted(manifest["prompts"]["count"], "prompt")
        print(f"note: the sweep is not finished; this is of the {so_far} done so far", file=sys.stderr)


def counted(many: int, what: str) -> str:
    """A number with what it counts: `1 prompt`, `1,024 prompts`."""
    return f"{many:,} {what}" if many == 1 else f"{many:,} {what}s"
