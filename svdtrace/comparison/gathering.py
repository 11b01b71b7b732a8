"""What was measured of all firings of a model on prompts, side by side as host arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from svdtrace.comparison.removing import Groups, Side, taken_out
from svdtrace.config import TraceConfig
from svdtrace.method.firings import FiringList, fired, thresholds
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.prepare import Prepared, writer_layers
from svdtrace.tracing.rows import WriterOrder

FEW, MANY = 8, 64
"""Firings of a prompt that are looked at together: many, unless few are all that a prompt has."""
GROUPS = 4
"""So many prompts' firings a call."""


@dataclass(frozen=True)
class Measured:
    """Firings of one layer and what came of them, both sides; `writer`: codes of `WriterOrder`."""

    firings: FiringList
    threshold: Float[np.ndarray, " firing"]
    writer: Int[np.ndarray, " writer"]
    sides: tuple[Side, Side]


def measured(
    prepared: Prepared, observed: Observed, config: TraceConfig, draws: int, rng: np.random.Generator
) -> Iterator[Measured]:
    """Every layer's firings of a batch: where both `exact` and `relative` fire.

    Args:
        config: threshold, tau and skip_first say what a firing and a slice are.
        draws: random orders of writers.
    """
    shape = prepared.model.config
    found = fired(pairs_of(prepared, observed, config), config)
    found = found.take(found.score >= 0)
    every = thresholds(config, observed.scale.shape[-1])
    order = WriterOrder.of(shape.n_layers, shape.n_heads)
    for layer in range(1, shape.n_layers):
        mine = found.take(found.layer == layer)
        if not len(mine):
            continue
        sides = _of_layer(prepared, observed, mine, layer, config, (draws, rng))
        gathered = order.codes_below(writer_layers(layer, shape.n_layers))
        below = np.isin(gathered, order.codes_below(layer))
        dest, src = (replace(each, weights=each.weights[..., below], falls=each.falls[..., below]) for each in sides)
        yield Measured(mine, every[mine.dest], gathered[below], (dest, src))


def _of_layer(
    prepared: Prepared,
    observed: Observed,
    firings: FiringList,
    layer: int,
    config: TraceConfig,
    random: tuple[int, np.random.Generator],
) -> tuple[Side, Side]:
    """One layer's firings, call by call."""
    dtype, n_layers = prepared.dtype, writer_layers(layer, prepared.model.config.n_layers)
    blocks, (draws, rng) = prepared.model.params.blocks, random
    n_writers = n_layers * (prepared.model.config.n_heads + 2) + 3
    every = thresholds(config, observed.scale.shape[-1])
    # Without any writer a pattern is even: where that reaches the threshold, no writers' leaving is enough.
    least = np.where(every * np.arange(1, len(every) + 1) > 1, every, np.inf).astype(dtype)
    calls = []
    for prompt, row in _grouped(firings.prompt):
        at = np.where(row < 0, row[:, :1], row)
        shuffled = rng.random((*row.shape, draws, n_writers), np.float32).astype(dtype)
        found = taken_out(
            observed,
            Groups(*map(jnp.asarray, (prompt, firings.head[at], firings.dest[at], firings.src[at], shuffled))),
            np.int32(layer),
            prepared.readers[layer - 1],
            blocks.W_O,
            blocks.b_O,
            prepared.score_scale[layer],
            np.asarray(config.tau, dtype),
            least,
            n_layers=n_layers,
        )
        calls.append((row.ravel(), found))
    return _joined(calls)


def _grouped(prompt: Int[np.ndarray, " firing"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Firings by prompt, [group] and [group member], -1 where there is none; the last call filled up by repetition."""
    groups, members = [], FEW if np.bincount(prompt).max() <= FEW else MANY
    for each in np.unique(prompt):
        rows = np.flatnonzero(prompt == each)
        for start in range(0, len(rows), members):
            part = rows[start : start + members]
            groups.append((each, np.pad(part, (0, members - len(part)), constant_values=-1)))
    for start in range(0, len(groups), GROUPS):
        call = groups[start : start + GROUPS]
        again = [(each, np.where(np.arange(members) == 0, row, -1)) for each, row in call[:1]] * (GROUPS - len(call))
        prompts, rows = zip(*call, *again, strict=True)
        yield np.asarray(prompts, np.int32), np.stack(rows)


def _joined(calls: list[tuple[np.ndarray, tuple[Side, Side]]]) -> tuple[Side, Side]:
    """The calls' results in the firings' order."""
    row = np.concatenate([each for each, _ in calls])
    # A firing that fills up a call stands there again, with the same result.
    _, place = np.unique(row, return_index=True)
    place = place[row[place] >= 0]

    def whole(*parts: Array) -> np.ndarray:
        flat = [np.asarray(part).reshape(-1, *part.shape[2:]) for part in parts]
        return np.concatenate(flat)[place]

    return jax.tree.map(whole, *(found for _, found in calls))
