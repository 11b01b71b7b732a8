"""Where heads fire (METHOD.md, section 3): found inside each layer, so that no T × T pattern outlives it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.config import DYNAMIC, RELATIVE, TraceConfig
from svdtrace.method.decomposition import FLOAT32_EPS

MOST_MAXIMA = 8
"""So many candidates are found by repeated maxima, more by a sort."""


@struct.dataclass
class Candidates:
    """The strongest eligible sources of every destination, whatever their score, best first; pattern is -1 where there
    is none.
    """

    src: Int[Array, "*layer prompt head dest candidate"]
    pattern: Float[Array, "*layer prompt head dest candidate"]
    score: Float[Array, "*layer prompt head dest candidate"]


def thresholds(config: TraceConfig, n_tokens: int) -> Float[np.ndarray, " dest"]:
    """θ_i of every destination; under `relative` the first one, which has nothing to choose from, never fires."""
    dest = np.arange(n_tokens)
    if config.threshold == DYNAMIC:
        found = np.minimum(1.0, 2.5 / (dest + 1))
    else:
        found = np.full(n_tokens, float(config.threshold))
    return np.where(dest == 0, np.inf, found) if config.method == RELATIVE else found


def least_score(config: TraceConfig) -> float:
    """The least score of a firing; under `relative` a score says nothing without the other keys'."""
    return -np.inf if config.method == RELATIVE else config.score_min


def candidates_per_destination(threshold: float | Float[np.ndarray, " dest"], n_tokens: int) -> int:
    """How many sources can reach the threshold at once: a pattern's row sums to 1, up to rounding."""
    if isinstance(threshold, np.ndarray):
        return max(1, *(min(dest + 1, _at_once(each, n_tokens)) for dest, each in enumerate(threshold.tolist())))
    return _at_once(threshold, n_tokens)


def _at_once(threshold: float, n_tokens: int) -> int:
    if threshold * n_tokens <= 1:
        return n_tokens
    return min(n_tokens, math.floor((1 + n_tokens * FLOAT32_EPS) / threshold))


def near_threshold(threshold: Any) -> Any:
    """How far below the threshold candidates are kept, so that those are seen that rounding alone keeps from firing.

    A tenth of the threshold, at most 0.05: ⌊1/threshold⌋ sources stay enough wherever 1/threshold is whole and below 9.
    """
    return np.minimum(0.05, threshold / 10)


def eligible_pairs(
    length: Int[Array, " prompt"], last: Int[Array, " prompt"], n_tokens: int, skip_first: bool
) -> Bool[Array, "prompt 1 dest src"]:
    """Pairs at which a firing counts: both tokens in the prompt, dest ≤ last traced token, src ≥ 1 with `skip_first`.

    `src ≤ dest` is the causal mask's business.
    """
    token = jnp.arange(n_tokens)[None]
    dest = (token <= last[:, None]) & (token < length[:, None])
    src = (token < length[:, None]) & (token >= (1 if skip_first else 0))
    return (dest[:, :, None] & src[:, None, :])[:, None]


def find_candidates(
    pattern: Float[Array, "prompt head dest src"],
    score: Float[Array, "prompt head dest src"],
    eligible: Bool[Array, "prompt 1 dest src"],
    count: int,
) -> Candidates:
    """The `count` largest eligible patterns of every destination; scores are held against nothing here.

    Repeated maxima instead of a sort where there are few: `count` is ⌊1/threshold⌋, two at the paper's threshold.
    """
    left = jnp.where(eligible, pattern, -1.0)
    if count > MOST_MAXIMA:
        best, src = jax.lax.top_k(left, count)
        return Candidates(src.astype(jnp.int32), best, jnp.take_along_axis(score, src, axis=-1))
    token = jnp.arange(pattern.shape[-1])[None, None, None]

    def take(left: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        src = jnp.argmax(left, axis=-1, keepdims=True)
        best = jnp.take_along_axis(left, src, axis=-1)[..., 0]
        its_score = jnp.take_along_axis(score, src, axis=-1)[..., 0]
        left = jnp.where(token == src, -1.0, left)
        return left, (src[..., 0].astype(jnp.int32), best, its_score)

    _, found = jax.lax.scan(take, left, None, length=count)
    return Candidates(*(jnp.moveaxis(each, 0, -1) for each in found))


@dataclass(frozen=True)
class FiringList:
    """Firings as host arrays, one entry each, sorted by (prompt, layer, head, dest, src)."""

    prompt: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    dest: np.ndarray
    src: np.ndarray
    pattern: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt)


def fired(candidates: Candidates, config: TraceConfig, first_layer: int = 1) -> FiringList:
    """`list_firings` by the settings' own rule."""
    every = thresholds(config, candidates.pattern.shape[-2])
    return list_firings(candidates, every, least_score(config), first_layer)


def reaches(
    pattern: Float[np.ndarray, "*axes dest candidate"], threshold: float | Float[np.ndarray, " dest"]
) -> Bool[np.ndarray, "*axes dest candidate"]:
    """Which candidates' patterns reach the threshold; compared in the model's own precision."""
    return pattern >= np.asarray(threshold, pattern.dtype).reshape(-1, 1)


def list_firings(
    candidates: Candidates, threshold: float | Float[np.ndarray, " dest"], score_min: float, first_layer: int = 1
) -> FiringList:
    """The candidates that reach the threshold and the least score, as a sorted list.

    Args:
        candidates: of all layers, leading axis layer.
        first_layer: rows below it are left out; tracing needs l ≥ 1, since a head of layer 0 has no earlier heads.
    """
    pattern, score = np.asarray(candidates.pattern), np.asarray(candidates.score)
    found = np.nonzero(reaches(pattern, threshold) & (score >= score.dtype.type(score_min)))
    layer, prompt, head, dest, _ = found
    src, score = np.asarray(candidates.src)[found], score[found]
    order = np.lexsort((src, dest, head, layer, prompt))
    order = order[layer[order] >= first_layer]
    columns = (prompt, layer, head, dest, src)
    return FiringList(
        *(column[order].astype(np.int32) for column in columns), pattern=pattern[found][order], score=score[order]
    )
