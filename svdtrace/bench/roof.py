"""How near each stage comes to its roof: the peak of arithmetic, or intensity × the peak of memory traffic."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gpt2jax.config import GPT2Config
from gpt2jax.numerics import einsum
from gpt2jax.params import Model
from svdtrace.bench.counts import VALUE, Work, attribution_work, decomposition_work, forward_work
from svdtrace.bench.record import seconds
from svdtrace.config import TraceConfig
from svdtrace.method.firings import fired
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.batching import Batch, plan_for, planned_batches
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import follow, sides_of, watch
from svdtrace.tracing.prepare import Prepared, prepare

GIGA, GIB = 1e9, 2**30
TRIES = 7


@dataclass(frozen=True)
class Peaks:
    """What this machine reached: FLOP/s of a large float32 product, bytes/s of a weighted sum of large arrays."""

    flop: float
    traffic: float

    def roof(self, work: Work) -> float:
        """FLOP/s that work of this intensity can reach at most."""
        return min(self.flop, work.intensity * self.traffic)


def measured_peaks(matmul: int, triad: int) -> Peaks:
    """The best of some tries each.

    Args:
        matmul: rows and columns of the two matrices.
        triad: values of each of the two arrays.
    """
    square = jnp.ones((matmul, matmul), jnp.float32)
    fastest = min(seconds(lambda: _product(square, square), TRIES + 1)[1:])
    a, b, taken = jnp.zeros(triad, jnp.float32), jnp.ones(triad, jnp.float32), []
    for _ in range(TRIES + 1):
        start = time.perf_counter()
        a = jax.block_until_ready(_weighted_sum(a, b))
        taken.append(time.perf_counter() - start)
    return Peaks(flop=2 * matmul**3 / fastest, traffic=3 * VALUE * triad / min(taken[1:]))


@jax.jit
def _product(a: Array, b: Array) -> Array:
    return einsum("ij,jk->ik", a, b)


@partial(jax.jit, donate_argnums=0)
def _weighted_sum(a: Array, b: Array) -> Array:
    """In the place of its first array, so that no fresh memory is asked of the system."""
    return a + 0.5 * b


def attribution(
    model: Model, prompts: Sequence[Prompt], repeats: int
) -> tuple[list[float], list[np.ndarray], Sequence[Batch]]:
    """Seconds of slices, contributions and edges (the pipeline's `follow`), run by run; and each batch's firings.

    Args:
        model: processed.
        prompts: all of one length.

    Returns:
        Seconds of all batches; each batch's firings [layer head]; the batches.
    """
    config, shape = TraceConfig(), model.config
    prepared = prepare(model, config)
    lengths = [len(prompt.tokens) for prompt in prompts]
    plan = plan_for(lengths, config.batch_size, shape.n_heads, prepared.platform)
    batches = list(planned_batches(prompts, plan))
    taken, firings = [], []
    for _ in range(repeats + 1):
        taken.append(0.0)
        firings.clear()
        for batch in batches:
            observed = jax.block_until_ready(watch(prepared, batch, config))
            taken[-1] += seconds(partial(_followed, prepared, batch, observed, config), 1)[0]
            found = fired(pairs_of(prepared, observed, config), config)
            firings.append(np.zeros((shape.n_layers, shape.n_heads), int))
            np.add.at(firings[-1], (found.layer, found.head), 1)
    return taken[1:], firings, batches


def _followed(prepared: Prepared, batch: Batch, observed: Observed, config: TraceConfig) -> list[Any]:
    """What the device makes of a batch's firings."""
    return [chunk.result for chunk in follow(prepared, batch, observed, config, roots=()).chunks]


def stage_works(config: GPT2Config, batches: Sequence[Batch], firings: Sequence[np.ndarray]) -> dict[str, Work]:
    """The least work of each stage, over all batches, by the stage's name."""
    sides = len(sides_of(TraceConfig()))
    nothing = Work(0, 0)
    return {
        "forward": sum((forward_work(config, len(each.prompts), each.tokens.shape[1]) for each in batches), nothing),
        "decomposition": decomposition_work(config),
        "attribute": sum((attribution_work(config, each, sides) for each in firings), nothing),
    }


def roof_line(stage: str, work: Work, taken: float, peaks: Peaks) -> dict[str, Any]:
    """One stage beside its roof; the share is null where there was nothing to do."""
    reached, roof = work.flop / taken, peaks.roof(work)
    return {
        "stage": stage,
        "seconds": taken,
        "gflop": work.flop / GIGA,
        "gib_moved": work.moved / GIB,
        "gflop_per_second": reached / GIGA,
        "roof_gflop_per_second": roof / GIGA,
        "share_of_roof": reached / roof if roof else None,
        "bound_by": "arithmetic" if roof == peaks.flop else "memory",
    }
