"""The clean run: what signals are on average, batches with the trace's marks, what heads write towards the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float

from svdtrace.config import TraceConfig
from svdtrace.faithfulness.given import Given, reading
from svdtrace.faithfulness.means import mean_over, token_sums
from svdtrace.faithfulness.measuring import Bench
from svdtrace.tracing.batching import Batch, batches, bucket_edges
from svdtrace.tracing.devices import computing_device
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.roots import root_heads
from svdtrace.tracing.rows import SIDES, WriterOrder


@dataclass(frozen=True)
class DirectEffects:
    """Every head's direct effect on the answer, and whether it is a root head (METHOD.md, section 11)."""

    effect: Float[np.ndarray, "prompt layer head"]
    chosen: Bool[np.ndarray, "prompt layer head"]


def clean_run(prepared: Prepared, config: TraceConfig, source: Given) -> tuple[Bench, DirectEffects]:
    """Run the prompts unedited, and make ready what edited runs need."""
    shape, params = prepared.model.config, prepared.model.params
    order = WriterOrder.of(shape.n_layers, shape.n_heads)
    every = _watched(config)
    coverage = np.asarray(config.coverage, prepared.dtype)
    sums, readings, places, effects, chosen = [], [], [], [], []
    for batch in _batches(source, shape.n_heads, config):
        observed, real = watch(prepared, batch, every), len(batch.prompts)
        sums.append(token_sums(params, observed, batch.length, batch.last))
        readings.append(reading(source, batch, (shape.n_layers, shape.n_heads, shape.d_head)))
        places.append(batch.place[:real])
        heads = root_heads(params, observed, batch.last, batch.answer, batch.distractor, coverage)
        effects.append(np.asarray(heads.effect)[:real])
        chosen.append(np.asarray(heads.chosen)[:real])
    bench = Bench(
        config=shape,
        params=params,
        readers=prepared.readers,
        means=mean_over(sums),
        codes=tuple(order.codes_below(layer)[:-1] for layer in range(1, shape.n_layers)),
        readings=tuple(readings),
        places=tuple(places),
        shape=(len(source.roles.names), shape.n_layers - 1, len(SIDES), shape.n_heads, len(order.labels) - 1),
    )
    by_prompt = np.argsort(np.concatenate(places))
    return bench, DirectEffects(np.concatenate(effects)[by_prompt], np.concatenate(chosen)[by_prompt])


def finite_places(prepared: Prepared, config: TraceConfig, source: Given) -> np.ndarray:
    """The numbers of the prompts whose activations are finite (`svdtrace.tracing.finite`)."""
    finite = np.zeros(len(source.prompts), bool)
    for batch in _batches(source, prepared.model.config.n_heads, config):
        observed, real = watch(prepared, batch, _watched(config)), len(batch.prompts)
        finite[batch.place[:real]] = np.asarray(observed.finite)[:real]
    return source.places[finite]


def _watched(config: TraceConfig) -> TraceConfig:
    """Settings under which the pass keeps what every writer wrote, whatever chose the edges."""
    return replace(config, writers="all", method="exact", select="cover", keys="summed")


def _batches(source: Given, n_heads: int, config: TraceConfig) -> list[Batch]:
    lengths = [len(prompt.tokens) for prompt in source.prompts]
    kind = computing_device(config).platform
    return list(batches(source.prompts, bucket_edges(lengths), "auto", n_heads, kind))
