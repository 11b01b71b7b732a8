"""What a sweep tells while it is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from svdtrace.surroundings.bars import progressing
from svdtrace.sweeping import parts
from svdtrace.sweeping.parts import Part, Tally


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: what whole parts hold, of it what earlier runs did, the prompts done of the part at work, and
    the seconds of this run.
    """

    done: Tally
    earlier: Tally
    seconds: float
    underway: int = 0

    @property
    def prompts(self) -> int:
        """How many are done with, traced or set aside."""
        return self.done.prompts + self.done.rejected + self.underway


@dataclass(frozen=True)
class Start:
    """What a sweep begins with: the parts that are there and what they hold, and how many records a part has at most;
    fewer if `measured`. `left`: whether anything is to be done.
    """

    parts: int
    there: Tally
    part_size: int
    measured: bool
    left: bool = True


def silent(_told: Any) -> None:
    """Tell nothing."""


@contextmanager
def telling(progress: Callable[[Progress], None] | bool | None) -> Iterator[Callable[[Progress], None]]:
    """Whom to tell: who was given, a bar for True, nobody."""
    with progressing(progress, "sweeping prompts") as told:
        if told is None:
            yield silent
        elif progress is True:
            yield lambda now: told(now.prompts, None)
        else:
            yield told


@dataclass(frozen=True)
class Told:
    """Who is told of a sweep's start and of its progress."""

    started: Callable[[Start], None]
    progress: Callable[[Progress], None]


@dataclass(frozen=True)
class Count:
    """What is done, and of it what earlier runs did, in a run that began at `start`."""

    start: float
    done: Part = field(default_factory=lambda: parts.in_all([]))
    earlier: Tally = field(default_factory=Tally)

    def plus(self, part: Part) -> Count:
        """With one part more."""
        return replace(self, done=parts.in_all([self.done, part]))

    def progress(self, underway: int = 0) -> Progress:
        """What is told when so many prompts of the part at work are done."""
        return Progress(self.done.tally, self.earlier, time.perf_counter() - self.start, underway)
