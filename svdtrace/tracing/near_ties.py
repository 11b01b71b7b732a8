"""Where rounding may decide otherwise: all counted, the first of them named, in the manifest.

Slices and cuts near a tie are those of METHOD.md, section 4; for pairs that fire or not, `svdtrace.method.bounds`
derives the bounds of scores and patterns.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.config import TraceConfig
from svdtrace.method.bounds import pattern_bounds, score_bounds
from svdtrace.method.firings import FiringList, least_score, near_threshold, thresholds
from svdtrace.tracing.observe import Sizes
from svdtrace.tracing.prepare import Prepared

NAMED = 20
PAIRS_AT_ONCE = 2**18
_READER = ("prompt", "layer", "head", "dest", "src")
_SORTS = ("{} (pattern)", "{} (score)", "{} (slice)", "{}/dest (edges)", "{}/src (edges)")


@dataclass(frozen=True)
class UndecidedPairs:
    """Pairs of tokens that rounding may make fire or not, one entry each.

    `prompt` is the place in the input; `by_pattern` marks those whose pattern is the reason, for the others it is the
    score alone.
    """

    prompt: np.ndarray
    layer: np.ndarray
    head: np.ndarray
    dest: np.ndarray
    src: np.ndarray
    by_pattern: np.ndarray

    def __len__(self) -> int:
        return len(self.prompt)

    @classmethod
    def joined(cls, parts: Sequence[UndecidedPairs]) -> UndecidedPairs:
        """One list or more end to end."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def undecided_pairs(
    prepared: Prepared, pairs: FiringList, sizes: Sizes, place: np.ndarray, config: TraceConfig
) -> UndecidedPairs:
    """Pairs of layers ≥ 1 that fire or not according to rounding: a pattern within its bound of the threshold, or a
    score within its bound of the least one, the other condition being met or as near.

    A bound is taken to be `near_threshold` at most: what is further from the threshold has not been listed.

    Args:
        pairs: of all layers and any score, those whose pattern is no further below the threshold.
        place: of the batch's prompts in the input, [prompt].
    """
    q, k = np.asarray(sizes.q), np.asarray(sizes.k)
    scores = _Scores(
        q=q,
        k=k,
        # The largest key up to each token, which is all that it attends to.
        largest=np.maximum.accumulate(k, axis=2),
        root=np.sqrt(np.asarray(prepared.decomposition.S)[..., 0]),
        scale=np.asarray(prepared.score_scale),
        thresholds=thresholds(config, q.shape[2]),
        least=least_score(config),
    )
    # So many at once, since of long prompts there may be millions.
    starts = range(0, max(1, len(pairs)), PAIRS_AT_ONCE)
    found = [_undecided_of(pairs.take(slice(start, start + PAIRS_AT_ONCE)), scores, place) for start in starts]
    return UndecidedPairs.joined(found)


@dataclass(frozen=True)
class _Scores:
    """What scores' bounds are made of: |q̂|, |k̂| and the largest |k̂| so far, [layer prompt tok head]; √σ_0, [layer
    head], and the score's scale, [layer]; θ of every destination and the least score.
    """

    q: np.ndarray
    k: np.ndarray
    largest: np.ndarray
    root: np.ndarray
    scale: np.ndarray
    thresholds: np.ndarray
    least: float


def _undecided_of(pairs: FiringList, scores: _Scores, place: np.ndarray) -> UndecidedPairs:
    traced = pairs.take(pairs.layer >= 1)
    prompt, layer, head, dest, src = traced.prompt, traced.layer, traced.head, traced.dest, traced.src
    root, scale, threshold = scores.root[layer, head], scores.scale[layer], scores.thresholds[dest]
    query = scores.q[layer, prompt, dest, head]
    of_score = score_bounds(query, scores.k[layer, prompt, src, head], root, scale)
    of_row = score_bounds(query, scores.largest[layer, prompt, dest, head], root, scale)
    # A destination attends to what stands up to it, however far its prompt was padded.
    of_pattern = np.minimum(pattern_bounds(traced.pattern, of_row, dest + 1), near_threshold(threshold))
    above = [traced.pattern - threshold, traced.score - scores.least]
    bounds = [of_pattern, of_score]
    may = np.all([each >= -bound for each, bound in zip(above, bounds, strict=True)], axis=0)
    near = [np.abs(each) <= bound for each, bound in zip(above, bounds, strict=True)]
    chosen = np.flatnonzero(may & (near[0] | near[1]))
    columns = (place[prompt], layer, head, dest, src, near[0])
    return UndecidedPairs(*(column[chosen] for column in columns))


def near_ties(firings: pa.Table, edges: pa.Table, undecided: Sequence[UndecidedPairs]) -> dict[str, Any]:
    """What a manifest says of decisions within rounding.

    Returns:
        `pairs` that may fire or not, reached by a root or not; `firings` with a slice near a tie; `edges` of a cut near
        one; `places`, how many pairs, slices and cuts that are in all; `named`, the first of them in prompt order:
        `prompt 3: 2.1@7:4 (pattern)`, (score), (slice), `prompt 3: 2.1@7:4/dest (edges)`.
    """
    pairs = UndecidedPairs.joined(undecided)
    tied, of_cuts = _flagged(firings), _flagged(edges)
    cut = np.where(edges["side"].to_numpy()[of_cuts] == "dest", 3, 4)
    found = np.concatenate(
        [
            _rows([getattr(pairs, name) for name in _READER], np.where(pairs.by_pattern, 0, 1)),
            _rows([firings[name].to_numpy()[tied] for name in _READER], np.full(len(tied), 2)),
            np.unique(_rows([edges[name].to_numpy()[of_cuts] for name in _READER], cut), axis=0),
        ]
    )
    first = found[np.lexsort(found.T[::-1])[:NAMED]]
    return {
        "pairs": len(pairs),
        "firings": len(tied),
        "edges": len(of_cuts),
        "places": len(found),
        "named": [f"prompt {at[0]}: " + _SORTS[at[5]].format("{1}.{2}@{3}:{4}".format(*at)) for at in first.tolist()],
    }


def renumbered(named: Sequence[str], places: Sequence[int]) -> list[str]:
    """The same names, prompt p called `places[p]`."""
    return [re.sub(r"^prompt (\d+)", lambda found: f"prompt {places[int(found[1])]}", name) for name in named]


def _flagged(table: pa.Table) -> np.ndarray:
    return np.flatnonzero(table["near_tie"].to_numpy())


def _rows(reader: Sequence[np.ndarray], sort: np.ndarray) -> np.ndarray:
    return np.stack([*reader, sort], axis=-1).astype(np.int64)
