"""What a run has found so far: numbers, seconds of stages, and targets met or missed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax


@dataclass
class Record:
    """Filled by one measurement after another; everything in it can be written as JSON."""

    values: dict[str, Any] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    targets: list[dict[str, Any]] = field(default_factory=list)

    def stage(self, name: str, seconds: Sequence[float]) -> float:
        """Note a stage's seconds; the median comes back."""
        self.stages[name] = {"median": statistics.median(seconds), "min": min(seconds), "max": max(seconds)}
        return self.stages[name]["median"]

    def at_most(self, measure: str, value: float, limit: float) -> None:
        """Note a target: the value should not exceed the limit."""
        self._target(measure, value, f"≤ {limit:g}", met=value <= limit)

    def at_least(self, measure: str, value: float, limit: float) -> None:
        """Note a target: the value should reach the limit."""
        self._target(measure, value, f"≥ {limit:g}", met=value >= limit)

    def _target(self, measure: str, value: float, target: str, *, met: bool) -> None:
        self.targets.append({"measure": measure, "value": value, "target": target, "met": met})


def seconds(work: Callable[[], Any], repeats: int) -> list[float]:
    """Seconds of each of some runs, what the device still computes waited for."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(work())
        taken.append(time.perf_counter() - start)
    return taken
