"""What interventions cost beside the plain forward pass, measured in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from gpt2jax.params import Model
from svdtrace.bench.forward import plain_forward
from svdtrace.config import TraceConfig
from svdtrace.interventions.choice import named_edges
from svdtrace.interventions.intervening import intervene_ready, make_ready, parse_specs
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.versions import versions
from svdtrace.tracing.devices import usable_cores
from svdtrace.tracing.trace import trace

EDITS = 500


def run(
    model: Model,
    prompts: Sequence[Prompt],
    edits: int = EDITS,
    repeats: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure single-edge ablations, half of them global, half local, against plain forward passes of the same prompts.

    Args:
        model: raw or folded.
        prompts: all of one batch, padded to their longest.
        edits: how many; the strongest edges of a trace of every firing, each once global and once local.
        repeats: how often both are measured, in turn.
        progress: called with steps done and in all.

    Returns:
        `interventions_ratio`: forward passes' worth of time for 100 edits, the ratio of medians; a forward pass is the
        blocks alone. The clean run, the tables and all else but reading the model are in the edits' time.
    """
    traced = trace(model, prompts, TraceConfig())
    names = named_edges(traced.prompts, traced.edges).strongest(edits // 2)
    ready, specs = make_ready(model, TraceConfig()), parse_specs(names, model.config, prompts)
    config = InterventionConfig(direction="ablate")
    tokens = np.zeros((len(prompts), max(len(prompt.tokens) for prompt in prompts)), np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[: len(prompt.tokens)] = prompt.tokens
    taken: dict[str, list[float]] = {"forward": [], "interventions": []}
    work = {
        "forward": lambda: jax.block_until_ready(plain_forward(ready.model.config, ready.model.params, tokens)),
        "interventions": lambda: intervene_ready(ready, prompts, specs, config),
    }
    for step in range(repeats + 1):
        for name, each in work.items():
            start = time.perf_counter()
            each()
            # The first of each compiles.
            taken[name] += [time.perf_counter() - start] if step else []
        if progress is not None:
            progress(step + 1, repeats + 1)
    n_edits = 2 * len(specs)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    device = jax.local_devices()[0]
    return {
        "interventions_ratio": medians["interventions"] / medians["forward"] * 100 / n_edits,
        "edits": n_edits,
        "prompts": len(prompts),
        "tokens": tokens.shape[1],
        "device": device.device_kind,
        "platform": device.platform,
        "cores": usable_cores(),
        "stages": {
            name: {"median": medians[name], "min": min(seconds), "max": max(seconds)} for name, seconds in taken.items()
        },
        **versions(),
    }
