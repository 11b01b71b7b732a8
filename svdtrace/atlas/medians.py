"""Where a score stands among others: its rank, and what is left once writers' and readers' medians are taken out.

A few coordinates of the residual are far larger than the rest in many heads at once, so that some heads score high with
every other one. `beyond = score − median(writer's) − median(reader's) + median(all)`, on one side of the readers, says
what a pair has that its two heads do not have with others.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def beyond_medians(score: Float[np.ndarray, "*side reader writer"]) -> Float[np.ndarray, "*side reader writer"]:
    """What is left of scores; NaN where there is none."""
    there = np.ma.masked_invalid(score)
    left = (
        there
        - np.ma.median(there, axis=-1, keepdims=True)
        - np.ma.median(there, axis=-2, keepdims=True)
        + np.ma.median(there, axis=(-2, -1), keepdims=True)
    )
    return left.filled(np.nan)


def ranks(score: Float[np.ndarray, "*side reader writer"]) -> Int[np.ndarray, "*side reader writer"]:
    """The rank of each writer among its reader's, 1 the largest, ties by the order of writers; 0 where there is no
    score.
    """
    there = ~np.isnan(score)
    order = np.argsort(np.where(there, -score, np.inf), axis=-1, kind="stable")
    return np.where(there, 1 + np.argsort(order, axis=-1, kind="stable"), 0)
