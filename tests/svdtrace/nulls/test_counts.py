"""What the manifest counts of p-values."""

from __future__ import annotations

import numpy as np
import pytest

from svdtrace.nulls.chance import q_values
from svdtrace.nulls.summary import counts_of, nulls_for


@pytest.mark.parametrize(
    ("p", "beat_all"),
    [([0.01, 0.01, 0.02, 1.0], 2), ([0.31, 0.5, 1.0], 0), ([0.02, np.nan], 0), ([np.nan], 0), ([], 0)],
)
def test_edges_that_beat_every_draw(p: list[float], beat_all: int):
    values = np.asarray(p, float)
    assert counts_of(values, values, 0.05, 99)["beat_all"] == beat_all


@pytest.mark.parametrize(("candidates", "beat_all"), [(651, 2), (40, 1), (1000, 30)])
def test_nulls_at_which_edges_that_go_on_beating_all_survive(candidates: int, beat_all: int):
    """Catches one draw too many or too few, and edges counted for candidates."""
    needed = nulls_for(candidates, beat_all, 0.05)
    assert needed is not None
    p = np.ones(candidates)
    for nulls, survives in ((needed, True), (needed - 1, False)):
        p[:beat_all] = 1 / (1 + nulls)
        assert bool(np.min(q_values(p, candidates)) <= 0.05 * (1 + 2 * np.finfo(float).eps)) is survives
    assert nulls_for(candidates, 0, 0.05) is None
