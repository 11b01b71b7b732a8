"""How far the reading of a trace or a sweep is, told while its parts are gone through."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from svdtrace.cli.options import Voice
from svdtrace.cli.terminal import counted, progress
from svdtrace.results.in_parts import InParts, Watched
from svdtrace.surroundings.bars import Advance
from svdtrace.surroundings.streams import on_terminal, visible


class Watch(Protocol):
    """Makes of a trace one that tells which of its parts is being read."""

    def __call__(self, trace: InParts, folder: Path, passes: int | None = None, /) -> InParts:
        """See `reading`; `passes` is how often all parts are read, without which the bar begins anew each time."""
        ...


@contextmanager
def reading(voice: Voice) -> Iterator[Watch]:
    """Progress on standard error while traces are read: a bar on a terminal; else, of a sweep, a line at the start, and
    of all a line after two seconds and then every minute; nothing with `--quiet`.
    """
    with progress("reading the trace", voice, first="") as advance:

        def watch(trace: InParts, folder: Path, passes: int | None = None, /) -> InParts:
            if advance is None:
                return trace
            many = sum(1 for _ in trace.parts())
            if many > 1 and not on_terminal(sys.stderr):
                edges = counted(trace.manifest["counts"]["edges"], "edge")
                print(visible(f"reading {many:,} parts of {folder}, {edges}"), file=sys.stderr, flush=True)
            return Watched(trace, _Passes(advance, passes))

        yield watch


class _Passes:
    """Tells of each part, and which time all of them are gone through."""

    def __init__(self, advance: Advance, passes: int | None) -> None:
        self._advance, self._passes, self._begun = advance, passes, 0

    def __call__(self, part: int, parts: int) -> None:
        self._begun += part == 1
        now = f"reading part {part:,} of {parts:,}"
        if self._passes is None:
            self._advance(part - 1, parts, now)
        else:
            done = parts * (self._begun - 1) + part - 1
            self._advance(done, parts * self._passes, f"{now}, pass {self._begun} of {self._passes}")
