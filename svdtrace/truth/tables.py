"""The tables of `score-truth`: their columns, listed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from svdtrace.results.columns import described
from svdtrace.truth.circuits import Wire
from svdtrace.truth.outcomes import Edge, Score

_RUN = (
    ("method", pa.string(), "a trace's method, or a rival: attribution patching, path patching, composition scores"),
    ("strength", pa.float32(), "strength of the random heads and MLPs; null of a model made elsewhere"),
    ("coverage", pa.float32(), "share of the contributions that edges must exceed (METHOD.md, section 6)"),
)
SCORES = described(
    *_RUN,
    ("prompts", pa.int32(), "prompts held against the truth; 1 for rivals, whose numbers are means over prompts"),
    ("reached", pa.float32(), "share of the prompts in which a root fires; for rivals 1 if one does in most, else 0"),
    ("true", pa.int32(), "true edges, over these prompts"),
    ("found", pa.int32(), "edges found, over these prompts"),
    ("both", pa.int32(), "edges that are true and found"),
    ("precision", pa.float32(), "both / found; null where none is found"),
    ("recall", pa.float32(), "both / true"),
    ("precision_heads", pa.float32(), "precision among writers that are heads, of signals that true heads write"),
    ("recall_heads", pa.float32(), "recall among writers that are heads; null where no true writer is one"),
    ("precision_most", pa.float32(), "precision of the edges found in at least half of the prompts, each once"),
    ("recall_most", pa.float32(), "recall of the edges found in at least half of the prompts, each once"),
    ("cut", pa.int32(), "true edges missed though their reader was reached: the writer was not taken"),
    ("unreached", pa.int32(), "true edges missed since their reader was not reached"),
    ("nameless", pa.int32(), "true edges missed since the method names heads alone"),
    ("angle", pa.float32(), "largest principal angle between planted and found signal, mean over signals, degrees"),
    ("angle_most", pa.float32(), "the largest of these angles, degrees"),
    ("dimensions", pa.float32(), "mean number of dimensions of the signals found"),
)
EDGES = described(
    *_RUN,
    ("writer", pa.string(), "what writes: 4.11, mlp.3, embed, pos, const"),
    ("reader", pa.string(), "the head that reads"),
    ("side", pa.string(), "what is written into: dest (the query) or src (the key)"),
    ("t", pa.string(), "role of the token at which it writes"),
    ("i", pa.string(), "role of the token from which the reader looks"),
    ("j", pa.string(), "role of the token to which it looks"),
    ("planted", pa.float32(), "planted share of its reader's signal; null of edges that are not true"),
    ("share", pa.float32(), "share of the prompts in which it is found"),
)

POWER = described(
    _RUN[1],
    ("claim", pa.string(), "what slices are made of: single vectors, or blocks of neighbours whose σ lie within 1 %"),
    ("nulls", pa.int32(), "nulls of each kind"),
    ("candidates", pa.int32(), "candidate edges (METHOD.md, section 12)"),
    ("true", pa.int32(), "true edges, each writer, reader, role and side once"),
    ("surviving", pa.int32(), "true edges that survive every null at a false-discovery rate of 0.05"),
    ("others", pa.int32(), "other edges that survive likewise"),
    ("nulls_needed", pa.int64(), "nulls at which the edges that beat all so far survive if they go on; null of none"),
    ("beats_slices", pa.float32(), "share of the true edges observed with p of at most 0.05 against random slices"),
    ("beats_bases", pa.float32(), "the same against random bases"),
    ("beats_prompts", pa.float32(), "the same against shuffled prompts, of edges that these can change"),
    ("others_beat_slices", pa.float32(), "share of all other edges observed with p of at most 0.05, random slices"),
    ("others_beat_bases", pa.float32(), "the same against random bases"),
    ("others_beat_prompts", pa.float32(), "the same against shuffled prompts, of edges that these can change"),
    ("mean_slice", pa.float32(), "mean |S| of singular vectors, over all firings"),
    ("random_mean_slice", pa.float32(), "mean |S| in random bases"),
)


@dataclass(frozen=True)
class Run:
    """One method at one strength and coverage: its score, and its signals' angles and dimensions, [signal 2]."""

    method: str
    strength: float | None
    coverage: float
    score: Score
    angles: np.ndarray | None = None


def scores_table(runs: Sequence[Run]) -> pa.Table:
    """`scores.parquet`."""
    return pa.Table.from_pylist([_score(run) for run in runs], schema=SCORES)


def edges_table(runs: Sequence[Run], true: dict[Wire, float]) -> pa.Table:
    """`edges.parquet`: of every run all true edges, then those that it found besides, the most frequent first."""
    planted = {Edge.of(wire): share for wire, share in true.items()}
    rows = []
    for run in runs:
        found = run.score.found_in
        others = sorted((edge for edge in found if edge not in planted), key=lambda edge: (-found[edge], edge))
        for edge in (*planted, *others):
            named = edge._asdict() | {"planted": planted.get(edge), "share": found[edge] / run.score.prompts}
            rows.append(_of(run) | named)
    return pa.Table.from_pylist(rows, schema=EDGES)


def _of(run: Run) -> dict[str, object]:
    return {"method": run.method, "strength": run.strength, "coverage": run.coverage}


def _score(run: Run) -> dict[str, object]:
    counts = {name: getattr(run.score, name) for name in ("prompts", "reached", "true", "found", "both")}
    row = _of(run) | counts | run.score.shares() | run.score.missed
    if run.angles is not None and len(run.angles):
        angle, dimensions = run.angles.T
        row |= {"angle": angle.mean(), "angle_most": angle.max(), "dimensions": dimensions.mean()}
    return row
