"""What weights predict of a trace, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from svdtrace.atlas.prediction import prediction_tables
from svdtrace.atlas.tabulating import Pairs


def test_chosen_writers_among_all_earlier_ones():
    """Catches readers compared with each other, edges counted once, and a rank among all heads."""
    score = np.full((3, 4, 4), np.nan)
    score[0, 2, :2], score[0, 3, :2] = (0.9, 0.1), (0.2, 0.3)
    score[1, 2, :2] = 0.5, 0.5
    deviation = np.full(score.shape, 0.1)
    zero = np.zeros(score.shape, int)
    pairs = Pairs(score, np.zeros(score.shape), deviation, zero, -score, zero)
    counts = np.zeros((2, 4, 4), np.int64)
    counts[0, 2, 0], counts[0, 3, 0], counts[1, 2, 0] = 3, 1, 2
    prediction, chosen = prediction_tables(counts, pairs, n_heads=2)
    rows = {(row["measure"], row["side"], row["layer"], row["head"]): row for row in prediction.to_pylist()}
    assert rows["score", "q", 1, 0]["auc"] == 1
    assert rows["beyond", "q", 1, 0]["auc"] == 0
    assert rows["score", "q", 1, 1]["auc"] == 0
    whole = rows["score", "q", None, None]
    assert (whole["writers"], whole["chosen"], whole["edges"], whole["median_rank"]) == (4, 2, 4, 1)
    assert whole["auc"] == pytest.approx(0.5)
    assert whole["auc_edges"] == pytest.approx(0.75)
    assert rows["excess", "k", None, None]["auc"] == pytest.approx(0.5)
    assert [(row["writer"], row["layer"], row["head"], row["side"], row["edges"]) for row in chosen.to_pylist()] == [
        ("0.0", 1, 0, "q", 3),
        ("0.0", 1, 1, "q", 1),
        ("0.0", 1, 0, "k", 2),
    ]
    assert chosen["rank_score"].to_pylist() == [1, 2, 1]
    assert chosen["writers"].to_pylist() == [2, 2, 2]
