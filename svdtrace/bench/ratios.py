"""Tracing beside the plain forward pass, and the decomposition beside dense SVDs."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import jax
import numpy as np

from gpt2jax.params import Model
from svdtrace.bench.forward import plain_forward
from svdtrace.bench.record import seconds
from svdtrace.config import TraceConfig
from svdtrace.folders.writing import write_tables
from svdtrace.method.decomposition import decompose, query_key_factors
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.batching import plan_for
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.prepare import prepare
from svdtrace.tracing.trace import Trace, trace_prepared

MOST_DENSE = 144
"""Heads whose dense SVD is timed; a model with more has the first of them timed, and the seconds scaled."""


@dataclass(frozen=True)
class Traced:
    """Seconds of forward passes and of traces, run by run, and of a trace's stages; the last trace itself."""

    forward: list[float]
    trace: list[float]
    stages: dict[str, list[float]]
    last: Trace = field(repr=False)

    @property
    def ratio(self) -> float:
        """Of the medians."""
        return statistics.median(self.trace) / statistics.median(self.forward)

    @property
    def firings_per_prompt(self) -> float:
        """As the tables have them."""
        return self.last.firings.num_rows / self.last.prompts.num_rows


def decomposition_seconds(model: Model, repeats: int) -> list[float]:
    """Seconds of decomposing all heads; once before, to compile."""
    return seconds(partial(decompose, model), repeats + 1)[1:]


def dense_seconds(model: Model) -> tuple[float, int]:
    """What the decomposition replaces: one dense SVD of every head's (d+1) × (d+1) matrix, by LAPACK.

    Returns:
        Seconds of all heads, and how many were timed.
    """
    A, B = (np.asarray(factor, np.float32) for factor in query_key_factors(model.params.blocks))
    A, B = (factor.reshape(-1, *factor.shape[2:]) for factor in (A, B))
    n_timed = min(len(A), MOST_DENSE)

    def svds() -> None:
        for head in range(n_timed):
            np.linalg.svd(A[head] @ B[head].T)

    return seconds(svds, 1)[0] * len(A) / n_timed, n_timed


def forward_and_trace(
    model: Model, prompts: Sequence[Prompt], repeats: int, config: TraceConfig | None = None
) -> Traced:
    """Seconds of both, taken in turn so that what else the machine does hits both; each once before, to compile.

    A trace is `--roots all` with its tables written, its forward pass included; the model is ready. A forward pass is
    the blocks of the same prompts in batches of the same size: no unembedding, no taps.

    Args:
        model: processed.
        prompts: all of one length.
        config: by default `TraceConfig()`.
    """
    config = config or TraceConfig()
    prepared = prepare(model, config)
    tokens = np.asarray([prompt.tokens for prompt in prompts], np.int32)
    platform = jax.local_devices()[0].platform
    size = plan_for([tokens.shape[1]] * len(tokens), config.batch_size, model.config.n_heads, platform).sizes[0]
    batches = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    stages: dict[str, list[float]] = {}
    last: list[Trace] = []

    def plain() -> None:
        for batch in batches:
            jax.block_until_ready(plain_forward(model.config, model.params, batch))

    def traced() -> None:
        clock = Clock()
        last[:] = [trace_prepared(prepared, prompts, config, clock=clock)]
        with tempfile.TemporaryDirectory() as folder, clock("write"):
            write_tables(last[0], Path(folder))
        for name, each in clock.seconds.items():
            stages.setdefault(name, []).append(each)

    plain()
    traced()
    stages.clear()
    both = [(seconds(plain, 1)[0], seconds(traced, 1)[0]) for _ in range(repeats)]
    return Traced([each[0] for each in both], [each[1] for each in both], stages, last[0])
