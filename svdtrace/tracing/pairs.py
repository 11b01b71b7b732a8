"""Pairs of tokens that fire, or all but fire, as a list on the host (METHOD.md, section 3).

Where few sources can reach the threshold at once the pass has kept them. Where hundreds can, as under a threshold that
falls with the destination, hardly any do: room for all of them would be larger than the pass itself, and sorting costs
more than it; so patterns are made once more from the queries and keys, of one layer at a time.
"""

from __future__ import annotations

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
    list_candidates,
    list_pairs,
    near_threshold,
    thresholds,
)
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.prepare import Prepared


def pairs_of(
    prepared: Prepared, observed: Observed, config: TraceConfig, least: float | Float[np.ndarray, " dest"] | None = None
) -> FiringList:
    """Pairs of all layers and any score whose pattern reaches `least`; waits for the pass.

    Args:
        observed: of a pass that kept the candidates that reach `least`, or none.
        least: by default a little below the threshold, so that those are there that rounding alone keeps from firing.
    """
    every = thresholds(config, observed.scale.shape[-1])
    limit = every - near_threshold(every) if least is None else least
    if observed.candidates is not None:
        return list_candidates(observed.candidates, limit)
    attended = partial(_attended, observed, prepared.score_scale, skip_first=config.skip_first)
    layers = range(prepared.model.config.n_layers)
    parts = (list_pairs(layer, *map(np.asarray, attended(np.int32(layer))), least=limit) for layer in layers)
    listed = FiringList.joined(parts)
    return listed.take(listed.order)


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
