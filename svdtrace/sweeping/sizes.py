"""How much goes into a part: what takes a third of a minute on this machine, so that a kill costs a minute at most."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.prompts.prompt import Prompt
from svdtrace.sweeping.windows import padded_tokens
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.trace import Settled, trace_settled

PART_SIZE = 2048
"""Records a part at most."""
PART_SECONDS = 20.0
"""What a part is meant to take: later prompts may fire more, and others may want the machine."""


def part_tokens(
    prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, settled: Settled, *, every: bool
) -> int | None:
    """How many tokens, counted as batches hold them, may go into a part; measured on one batch.

    Never fewer than one batch of each length that occurs among the first prompts, since batches that are mostly empty
    would cost more than a kill.

    Args:
        prompts: the first of a sweep.
        settled: roots and shapes.
        every: whether there are no others.

    Returns:
        `None` where all prompts make one batch of each length, which cannot be parted to any use.
    """
    plan = settled.plan
    bucket_of = np.searchsorted(np.asarray(plan.edges), [len(prompt.tokens) for prompt in prompts])
    counts = np.bincount(bucket_of)
    one_of_each = sum(plan.edges[bucket] * plan.sizes[bucket] for bucket in np.flatnonzero(counts))
    if every and padded_tokens(prompts, plan) == one_of_each:
        return None
    bucket = int(np.argmax(counts))
    chosen = [prompts[place] for place in np.flatnonzero(bucket_of == bucket)[: plan.sizes[bucket]]]
    # Once to compile, once to measure.
    trace_settled(prepared, chosen, config, settled)
    start = time.perf_counter()
    trace_settled(prepared, chosen, config, settled)
    # A full batch may fire as much more as it holds more prompts.
    seconds = (time.perf_counter() - start) * plan.sizes[bucket] / len(chosen)
    return max(one_of_each, int(PART_SECONDS / seconds * plan.edges[bucket] * plan.sizes[bucket]))
