"""Whether numbers are numbers: weights that are not finite are an error where they come in."""

from __future__ import annotations

import numpy as np


def count_not_finite(array: np.ndarray) -> int:
    """How many values of an array are NaN or infinite.

    A float32 sum of squares, one pass at the speed of memory without a copy, is finite only if they all are; only where
    it is not is each looked at, since large values overflow it too.
    """
    if array.dtype == np.float32:
        flat = array.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return 0
    return int(array.size - np.count_nonzero(np.isfinite(array)))
