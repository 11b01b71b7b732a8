"""Prompts of one padded length, all of them run through the model: a prompt's partner may be any of its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.method.firings import FiringList, fired
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.batching import Batch, plan_for, planned_batches
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared


@dataclass(frozen=True)
class Bucket:
    """What was observed of prompts of one padded length, and what stands at their tokens.

    `length` [prompt], 0 for a row that holds no prompt or one whose activations are not finite; `not_finite` the places
    of those; `place` in the input, -1 for such a row; `role` [prompt tok]
    numbers of roles; `partnered` marks prompts that have another of their length.
    """

    observed: Observed
    firings: FiringList
    length: np.ndarray
    place: np.ndarray
    role: np.ndarray
    partnered: np.ndarray
    not_finite: np.ndarray


def role_names(prompts: Sequence[Prompt], other: str) -> tuple[str, ...]:
    """The label of a token without a role, then every role, as first met."""
    return tuple(dict.fromkeys([other, *(role for prompt in prompts for role in prompt.roles)]))


def role_numbers(prompts: Sequence[Prompt], names: Sequence[str], shape: tuple[int, int]) -> np.ndarray:
    """The role of each token, [row tok], as places in `names`; of several at one position the last listed wins.

    Args:
        shape: rows and tokens; rows without a prompt get 0, as tokens without a role do.
    """
    number = {name: at for at, name in enumerate(names)}
    roles = np.zeros(shape, np.int32)
    for row, prompt in zip(roles, prompts, strict=False):
        for role, position in prompt.roles.items():
            row[position] = number[role]
    return roles


def buckets(
    prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, names: Sequence[str], device_kind: str
) -> Iterator[Bucket]:
    """Run the prompts, one padded length after another; what is held grows with the prompts of a length."""
    n_heads = prepared.model.config.n_heads
    plan = plan_for([len(prompt.tokens) for prompt in prompts], config.batch_size, n_heads, device_kind)
    parts: dict[int, list[Batch]] = {}
    for batch in planned_batches(prompts, plan):
        parts.setdefault(batch.tokens.shape[1], []).append(batch)
    for its in parts.values():
        yield _bucket(prepared, its, config, names)


def _bucket(prepared: Prepared, its: Sequence[Batch], config: TraceConfig, names: Sequence[str]) -> Bucket:
    passes = [watch(prepared, batch, config) for batch in its]
    observed = _joined(passes)
    finite = np.asarray(observed.finite)
    length = np.where(finite, np.concatenate([batch.length for batch in its]), 0)
    place = np.concatenate([batch.place for batch in its])
    return Bucket(
        observed=observed,
        firings=_firings(prepared, passes, config),
        length=length,
        place=place,
        not_finite=place[~finite],
        role=np.concatenate([role_numbers(batch.prompts, names, batch.tokens.shape) for batch in its]),
        partnered=np.bincount(length)[length] > 1,
    )


def _firings(prepared: Prepared, passes: Sequence[Observed], config: TraceConfig) -> FiringList:
    """Those of all passes, prompts counted on."""
    found, before = [], 0
    for observed in passes:
        its = fired(pairs_of(prepared, observed, config), config)
        found.append(replace(its, prompt=its.prompt + before))
        before += len(observed.finite)
    return FiringList.joined(found)


def _joined(parts: Sequence[Observed]) -> Observed:
    """Batches end to end."""

    def along(axis: int, *names: str) -> dict[str, Any]:
        join = partial(_end_to_end, axis)
        return {name: jax.tree.map(join, *(getattr(each, name) for each in parts)) for name in names}

    by_layer = along(1, "sizes", "q", "k", "z", "scale", "read", "written", "mlp_out")
    by_prompt = along(0, "embed", "pos", "first_q", "first_k", "final_read", "final_scale", "finite", "length", "last")
    return Observed(candidates=None, **by_layer, **by_prompt)


def _end_to_end(axis: int, *parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, axis=axis)
