"""Whether the nulls of METHOD.md, section 12, see what was planted: how many true edges survive, with how many nulls.

Claims are made by single singular vectors, as in a trace, and by blocks of near-equal σ, whose vectors are as good as
any others of their span. An edge that a null explains may be lost for want of draws, or because the null leaves it as
it is: the first shows in survivors that grow with the draws, the second in p-values that do not fall.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.nulls.chance import Chance, chance, largest, q_values, tested_alone
from svdtrace.nulls.draws import KINDS
from svdtrace.nulls.summary import counts_of, nulls_for
from svdtrace.prompts.prompt import Prompt
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import SIDES
from svdtrace.truth.planting import Truth

RATE = 0.05
NEAR = 0.01
CLAIMS: dict[str, float | None] = {"vectors": None, "blocks": NEAR}
"""What a slice is made of: how close, relatively, σ must lie for vectors to come into it together."""
STEPS = (100, 10, 1)
"""The draws asked for, a tenth and a hundredth of them."""


def power(
    prepared: Prepared, prompts: Sequence[Prompt], truth: Truth, strength: float | None, nulls: int
) -> Iterator[dict[str, Any]]:
    """Rows of `power.parquet` (`svdtrace.truth.tables.POWER`) of one model: by claim and number of nulls."""
    for claim, near in CLAIMS.items():
        found = chance(prepared.model, prompts, TraceConfig(writers="all"), nulls=nulls, blocks=near)
        true = true_candidates(found, truth)
        for few in sorted({max(1, nulls // step) for step in STEPS}):
            yield {"strength": strength, "claim": claim, "nulls": few} | counted(found, true, few)


def true_candidates(found: Chance, truth: Truth) -> dict[tuple[str, str, str, str], int]:
    """Where each true edge (writer, reader, role of the token, side) stands among the candidates observed; -1 where it
    was not observed at all.
    """
    its, named = found.candidates, {}
    codes = {name: at for at, name in enumerate(its.order.labels)}
    for wire in truth.edges:
        layer, head = map(int, wire.reader.split("."))
        place = (SIDES.index(wire.side), layer, head, its.roles.index(wire.t), codes[wire.writer])
        at = np.flatnonzero(its.key == its.keys(*(np.asarray([each]) for each in place)))
        named[wire.writer, wire.reader, wire.t, wire.side] = int(at[0]) if len(at) else -1
    return named


def counted(found: Chance, true: dict[tuple[str, str, str, str], int], nulls: int) -> dict[str, Any]:
    """What the first so many nulls say of the true edges, and of all others."""
    p = tested_alone(found.candidates, found.observed, {kind: each[:nulls] for kind, each in found.null.items()})
    every, candidates = largest(p), found.summary["candidates"]
    q = q_values(every, candidates)
    places = np.asarray([at for at in true.values() if at >= 0], int)
    survives = q <= RATE
    beat_all = counts_of(every, q, RATE, nulls)["beat_all"]
    size = found.size[:nulls] * np.arange(found.size.shape[-1])
    firings = max(1, int(found.candidates.size.sum()))
    own = found.candidates.size * np.arange(found.size.shape[-1])
    return {
        "candidates": candidates,
        "true": len(true),
        "surviving": int(survives[places].sum()),
        "others": int(survives.sum() - survives[places].sum()),
        "nulls_needed": nulls_for(candidates, beat_all, RATE),
        **{f"beats_{kind}": _beating(p.get(kind), places) for kind in KINDS},
        **{f"others_beat_{kind}": _beating(p.get(kind), np.setdiff1d(np.arange(len(q)), places)) for kind in KINDS},
        "mean_slice": float(own.sum() / firings),
        "random_mean_slice": float(size.sum() / firings / nulls),
    }


def _beating(p: np.ndarray | None, places: np.ndarray) -> float | None:
    """The share of edges with a p of at most the rate against one null alone, among those of which it says anything."""
    its = np.zeros(0) if p is None else p[places]
    its = its[~np.isnan(its)]
    return float((its <= RATE).mean()) if len(its) else None
