"""Seconds per stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds of the host per stage; what a device does meanwhile counts under the stage that the host is at."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what happens within, under a stage's name."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def rounded(self) -> dict[str, float]:
        """The stages' seconds and their sum, to milliseconds."""
        return {
            **{stage: round(each, 3) for stage, each in self.seconds.items()},
            "total": round(sum(self.seconds.values()), 3),
        }
