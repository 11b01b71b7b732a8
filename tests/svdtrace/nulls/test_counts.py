"""What the manifest counts of p-values."""

from __future__ import annotations

import numpy as np
import pytest

from svdtrace.nulls.summary import counts_of


@pytest.mark.parametrize(
    ("p", "beat_all"),
    [([0.01, 0.01, 0.02, 1.0], 2), ([0.31, 0.5, 1.0], 0), ([0.02, np.nan], 0), ([np.nan], 0), ([], 0)],
)
def test_edges_that_beat_every_draw(p: list[float], beat_all: int):
    values = np.asarray(p, float)
    assert counts_of(values, values, 0.05, 99)["beat_all"] == beat_all
