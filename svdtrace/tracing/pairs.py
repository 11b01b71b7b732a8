"""Pairs of tokens that fire, or all but fire, as a list on the host (METHOD.md, section 3).

Where few sources can reach the threshold at once the pass has kept them. Where hundreds can, as under a threshold that
falls with the destination, hardly any do: room for all of them would be larger than the pass itself, and sorting costs
more than it; so patterns are made once more from the queries and keys, of one layer at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gpt2jax.blocks import attention_mask, masked_softmax
from gpt2jax.numerics import einsum
from svdtrace.config import TraceConfig
from svdtrace.method.firings import (
    FiringList,
    eligible_pairs,
    fires,
    list_candidates,
    list_pairs,
    near_threshold,
    thresholds,
)
from svdtrace.tracing.near_ties import UndecidedPairs, undecided_pairs
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.prepare import Prepared


@dataclass(frozen=True)
class Fired:
    """What is to be said of all firings of a batch, read or not: how many they are per head of traced layers, [layer
    head], and in layer 0; pairs that fire or not according to rounding.
    """

    per_head: Int[np.ndarray, "layer head"]
    of_layer_0: int
    undecided: UndecidedPairs


def firings_of(
    prepared: Prepared, observed: Observed, place: Int[np.ndarray, " prompt"], config: TraceConfig
) -> tuple[FiringList, Fired]:
    """The firings of traced layers, and what is to be said of all; waits for the pass.

    Args:
        place: of the batch's prompts in the input.
    """
    shape = prepared.model.config
    per_head, parts, undecided = np.zeros((shape.n_layers, shape.n_heads), np.int64), [], []
    for pairs in _lists_of(prepared, observed, config):
        undecided.append(undecided_pairs(prepared, pairs, observed.sizes, place, config))
        firings = pairs.take(fires(pairs, config))
        np.add.at(per_head, (firings.layer, firings.head), 1)
        parts.append(firings.take(firings.layer > 0))
    of_layer_0 = int(per_head[0].sum())
    per_head[0] = 0
    return FiringList.of_layers(parts), Fired(per_head, of_layer_0, UndecidedPairs.joined(undecided))


def pairs_of(
    prepared: Prepared, observed: Observed, config: TraceConfig, least: float | Float[np.ndarray, " dest"] | None = None
) -> FiringList:
    """Pairs of all layers and any score whose pattern reaches `least`; waits for the pass.

    Args:
        observed: of a pass that kept the candidates that reach `least`, or none.
        least: by default a little below the threshold, so that those are there that rounding alone keeps from firing.
    """
    return FiringList.of_layers(list(_lists_of(prepared, observed, config, least)))


def _lists_of(
    prepared: Prepared, observed: Observed, config: TraceConfig, least: float | Float[np.ndarray, " dest"] | None = None
) -> Iterator[FiringList]:
    """The same, layer by layer, or in one list where the pass kept them: all at once they may be more than it holds."""
    every = thresholds(config, observed.scale.shape[-1])
    limit = every - near_threshold(every) if least is None else least
    if observed.candidates is not None:
        yield list_candidates(observed.candidates, limit)
        return
    attended = partial(_attended, observed, prepared.score_scale, skip_first=config.skip_first)
    for layer in range(prepared.model.config.n_layers):
        yield list_pairs(layer, *map(np.asarray, attended(np.int32(layer))), least=limit)


@partial(jax.jit, static_argnames="skip_first")
def _attended(
    observed: Observed, score_scale: Float[Array, " layer"], layer: Int[Array, ""], *, skip_first: bool
) -> tuple[Float[Array, "prompt head dest src"], Float[Array, "prompt head dest src"]]:
    """Pattern and score of one layer; a pattern of -1 where no firing counts."""
    q, k = (jax.lax.dynamic_index_in_dim(each, layer, keepdims=False) for each in (observed.q, observed.k))
    n_tokens = q.shape[1]
    allowed = attention_mask(jnp.arange(n_tokens)[None] < observed.length[:, None])
    score = jnp.where(allowed, einsum("binh,bjnh->bnij", q, k) * score_scale[layer], -jnp.inf)
    eligible = eligible_pairs(observed.length, observed.last, n_tokens, skip_first)
    eligible = eligible & observed.finite[:, None, None, None]
    return jnp.where(eligible, masked_softmax(score), -1), score
