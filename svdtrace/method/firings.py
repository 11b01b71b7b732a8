"""Where heads fire (METHOD.md, section 3): the strongest sources of every destination, found inside each layer while
they are few (`Candidates`), and pairs of tokens as lists on the host.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.config import DYNAMIC, RELATIVE, TraceConfig
from svdtrace.method.decomposition import FLOAT32_EPS

MOST_MAXIMA = 8
"""At most so many candidates are kept by the pass; where more sources can fire at once, few do: a list is shorter."""


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
    return _threshold_at(config, np.arange(n_tokens))


def _threshold_at(config: TraceConfig, dest: Int[np.ndarray, "*axes"]) -> Float[np.ndarray, "*axes"]:
    if config.threshold == DYNAMIC:
        found = np.minimum(1.0, 2.5 / (dest + 1))
    else:
        found = np.full(dest.shape, float(config.threshold))
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


def candidates_kept(config: TraceConfig, n_tokens: int) -> int:
    """How many candidates of every destination a pass keeps, so that `near_threshold` of the settings is met; above
    `MOST_MAXIMA` none.
    """
    every = thresholds(config, n_tokens)
    # One number for all that keep none, so that one program is compiled.
    return min(candidates_per_destination(every - near_threshold(every), n_tokens), MOST_MAXIMA + 1)


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

    Repeated maxima instead of a sort: `count` is ⌊1/threshold⌋, two at the paper's threshold.
    """
    left = jnp.where(eligible, pattern, -1.0)
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
    """Firings, or pairs of tokens that may be firings, as host arrays; one entry each, sorted by (prompt, layer, head,
    dest, src) unless something else is said.
    """

    prompt: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    dest: np.ndarray
    src: np.ndarray
    pattern: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt)

    def take(self, rows: np.ndarray | slice) -> FiringList:
        """Some of them, by index, mask or from one to another."""
        return FiringList(*(getattr(self, each.name)[rows] for each in fields(self)))

    @property
    def order(self) -> np.ndarray:
        """The rows' indices in the order in which they are sorted."""
        return np.lexsort((self.src, self.dest, self.head, self.layer, self.prompt))

    @classmethod
    def joined(cls, parts: Iterable[FiringList]) -> FiringList:
        """One list or more end to end, not sorted."""
        columns = zip(*([getattr(part, each.name) for each in fields(cls)] for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))

    @classmethod
    def of_layers(cls, parts: list[FiringList]) -> FiringList:
        """Lists of one layer each, the lowest first, put together in order, or a single one as it is.

        Args:
            parts: emptied, since they may be millions: no row is moved twice, and what is put together is let go column
                by column.
        """
        if len(parts) == 1:
            return parts.pop()
        last = max((int(part.prompt[-1]) for part in parts if len(part)), default=-1)
        starts = [np.searchsorted(part.prompt, np.arange(last + 2)) for part in parts]
        its = [
            (place, slice(start[prompt], start[prompt + 1]))
            for prompt in range(last + 1)
            for place, start in enumerate(starts)
        ] or [(0, slice(0))]
        columns = [[getattr(part, each.name) for part in parts] for each in fields(cls)]
        parts.clear()

        def together() -> Iterator[np.ndarray]:
            while columns:
                own = columns.pop(0)
                yield np.concatenate([own[place][rows] for place, rows in its])

        return cls(*together())


def fired(pairs: FiringList, config: TraceConfig, first_layer: int = 1) -> FiringList:
    """Which of some pairs are firings, by the settings' own rule.

    Args:
        pairs: of any score; at least all that reach the threshold.
        first_layer: rows below it are left out; tracing needs l ≥ 1, since a head of layer 0 has no earlier heads.
    """
    return pairs.take(fires(pairs, config) & (pairs.layer >= first_layer))


def fires(pairs: FiringList, config: TraceConfig) -> Bool[np.ndarray, " pair"]:
    """The same as a mask, layers aside."""
    return reaching(pairs, config) & (pairs.score >= pairs.score.dtype.type(least_score(config)))


def reaching(pairs: FiringList, config: TraceConfig) -> Bool[np.ndarray, " pair"]:
    """Which of some pairs reach the threshold, whatever their score."""
    return reaches(pairs.pattern, _threshold_at(config, pairs.dest))


def reaches(
    pattern: Float[np.ndarray, "*axes"], threshold: float | Float[np.ndarray, "*#axes"]
) -> Bool[np.ndarray, "*axes"]:
    """Which patterns reach their threshold; compared in the model's own precision."""
    return pattern >= np.asarray(threshold, pattern.dtype)


def list_candidates(candidates: Candidates, least: float | Float[np.ndarray, " dest"]) -> FiringList:
    """The candidates of all layers, leading axis layer, whose pattern reaches `least`."""
    pattern = np.asarray(candidates.pattern)
    found = np.nonzero(reaches(pattern, np.reshape(least, (-1, 1))))
    src, score = np.asarray(candidates.src)[found], np.asarray(candidates.score)[found]
    layer, prompt, head, dest, _ = found
    columns = (prompt, layer, head, dest, src)
    listed = FiringList(*(column.astype(np.int32) for column in columns), pattern=pattern[found], score=score)
    return listed.take(listed.order)


def list_pairs(
    layer: int,
    pattern: Float[np.ndarray, "prompt head dest src"],
    score: Float[np.ndarray, "prompt head dest src"],
    least: float | Float[np.ndarray, " dest"],
) -> FiringList:
    """The pairs of one layer whose pattern reaches `least`."""
    found = np.nonzero(reaches(pattern, np.reshape(least, (-1, 1))))
    prompt, *columns = (column.astype(np.int32) for column in found)
    return FiringList(prompt, np.full_like(prompt, layer), *columns, pattern=pattern[found], score=score[found])
