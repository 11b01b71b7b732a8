"""Pairs of tokens at which it depends on rounding whether a head fires, and firings by the threshold alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.method.firings import FiringList, candidates_per_destination, reaching
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.batching import plan_for, planned_batches
from svdtrace.tracing.devices import computing_device
from svdtrace.tracing.observe import observe
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.prepare import Prepared

NEAR = 1e-3
"""How far from the threshold, or a score from its least, two implementations in float32 may disagree."""


@dataclass(frozen=True)
class Nearness:
    """`firings_by_threshold` [layer head] counts pairs whose pattern reaches the threshold, whatever their score, and
    `close` those whose pattern is near it.

    `places`: (prompt, layer, head, dest, src) of pairs near the threshold, or above it and with a score near the least.
    """

    firings_by_threshold: np.ndarray
    places: frozenset[tuple[int, int, int, int, int]]
    close: np.ndarray


def find_near(prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, near: float = NEAR) -> Nearness:
    """Look at all pairs of tokens once more, without a condition on the score and a little below the threshold."""
    shape = prepared.model.config
    lengths = [len(prompt.tokens) for prompt in prompts]
    plan = plan_for(lengths, config.batch_size, shape.n_heads, computing_device(config).platform)
    per_head, close_ones = np.zeros((2, shape.n_layers, shape.n_heads), np.int64)
    places: set[tuple[int, int, int, int, int]] = set()
    least = max(config.threshold - near, near)
    for batch in planned_batches(prompts, plan):
        observed = observe(
            shape,
            prepared.model.params,
            batch.tokens,
            batch.length,
            batch.last,
            count=candidates_per_destination(least, batch.tokens.shape[1]),
            skip_first=config.skip_first,
            all_writers=False,
        )
        found = pairs_of(prepared, observed, config, least)
        reach = reaching(found, config)
        np.add.at(per_head, (found.layer[reach], found.head[reach]), 1)
        close = np.abs(found.pattern - config.threshold) <= near
        np.add.at(close_ones, (found.layer[close], found.head[close]), 1)
        places |= _places(found, close | (reach & (np.abs(found.score - config.score_min) <= near)), batch.place)
    return Nearness(per_head, frozenset(places), close_ones)


def _places(found: FiringList, rows: np.ndarray, place: np.ndarray) -> set[tuple[int, int, int, int, int]]:
    columns = (place[found.prompt], found.layer, found.head, found.dest, found.src)
    return set(zip(*(column[rows].tolist() for column in columns), strict=True))
