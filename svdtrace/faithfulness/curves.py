"""Sets of edges of growing size, what share of the behaviour they carry, and the area under that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from svdtrace.statistics import bootstrap_error

LEAST_ERRORS = 5
"""Standard errors that a divisor must exceed, else a share of it says nothing."""
TRACED, ATTRIBUTION, RANDOM = "traced", "attribution", "random"
FAITHFUL, COMPLETE = "faithfulness", "completeness"
KINDS = (FAITHFUL, COMPLETE)
"""What is kept: the set alone, or all but the set."""


@dataclass(frozen=True)
class Order:
    """Candidates, the first to be taken first.

    `seed` is that of a random order, `measure` that which attribution patching goes by.
    """

    name: str
    seed: int | None
    measure: int | None
    edges: Int[np.ndarray, " edge"]


@dataclass(frozen=True)
class Sets:
    """All sets to be measured, one row each: the first `size` edges of an order, kept or removed."""

    order: Int[np.ndarray, " set"]
    size: Int[np.ndarray, " set"]
    kind: Int[np.ndarray, " set"]
    members: Bool[np.ndarray, "set edge"]


def orders(
    total: Float[np.ndarray, " edge"],
    traced: Bool[np.ndarray, " edge"],
    attribution: Float[np.ndarray, "measure edge"],
    seeds: int,
    seed: int,
) -> list[Order]:
    """The trace's edges by total weight; all candidates by attribution patching; all candidates in random orders.

    Ties: the earlier candidate first.
    """
    by_weight = np.argsort(-total, kind="stable")
    found = [
        Order(TRACED, None, None, by_weight[traced[by_weight]]),
        *(
            Order(ATTRIBUTION, None, measure, np.argsort(-scores, kind="stable"))
            for measure, scores in enumerate(attribution)
        ),
    ]
    for each in range(seed, seed + seeds):
        found.append(Order(RANDOM, each, None, np.random.default_rng(each).permutation(len(total))))
    return found


def sizes(count: int, points: int) -> Int[np.ndarray, " size"]:
    """At most `points` whole numbers from 1 to `count`, both among them, evenly spaced in their logarithm."""
    return (
        np.unique(np.rint(np.geomspace(1, count, max(1, min(points, count)))).astype(int))
        if count
        else np.zeros(0, int)
    )


def nested_sets(found: list[Order], size: Int[np.ndarray, " size"], n_edges: int) -> Sets:
    """The first edges of every order, for every size and kind."""
    rows = [(o, s, k) for o in range(len(found)) for s in size.tolist() for k in range(len(KINDS))]
    order, count, kind = (
        (np.asarray(column, int) for column in zip(*rows, strict=True)) if rows else [np.zeros(0, int)] * 3
    )
    members = np.zeros((len(rows), n_edges), bool)
    for row, (o, s, _) in enumerate(rows):
        members[row, found[o].edges[:s]] = True
    return Sets(order, count, kind, members)


@dataclass(frozen=True)
class Divisor:
    """What shares of a measure are divided by: how far the clean run is from the run without any signal.

    Args:
        mean: m(clean) − m(nothing), over the prompts.
        error: its standard error by bootstrap over the prompts; NaN for a single one.
    """

    mean: float
    error: float

    @classmethod
    def of(cls, clean: Float[np.ndarray, " prompt"], nothing: Float[np.ndarray, " prompt"]) -> Divisor:
        """The divisor of a measure."""
        span = clean - nothing
        return cls(float(span.mean()), bootstrap_error(span))

    @property
    def in_errors(self) -> float:
        """Its size in standard errors; 0 where it is 0 or has no error to be held against."""
        if not self.error > 0:
            return math.inf if self.error == 0 and self.mean else 0.0
        return abs(self.mean) / self.error

    @property
    def why(self) -> str | None:
        """Why nothing is divided by it; None where it is large enough."""
        if self.in_errors > LEAST_ERRORS:
            return None
        if math.isnan(self.error):
            return "one prompt gives the divisor no standard error"
        size = f"is {self.in_errors:.1f} of its standard errors" if self.error > 0 else "is 0 in every prompt"
        return f"the divisor, {self.mean:.2g}, {size}, not above {LEAST_ERRORS}"


def recovered(
    difference: Float[np.ndarray, "*set prompt"],
    clean: Float[np.ndarray, " prompt"],
    nothing: Float[np.ndarray, " prompt"],
) -> Float[np.ndarray, "*set prompt"]:
    """`(m − m(nothing)) / (mean m(clean) − mean m(nothing))`: its mean over prompts is the share recovered.

    NaN where the divisor says why nothing is divided by it.
    """
    divisor = Divisor.of(clean, nothing)
    return (difference - nothing) / (divisor.mean if divisor.why is None else np.nan)


def area(values: Float[np.ndarray, "size prompt"], size: Int[np.ndarray, " size"]) -> Float[np.ndarray, " prompt"]:
    """The mean height of a curve over the logarithm of the number of edges, by the trapezoidal rule."""
    if len(size) == 1:
        return values[0]
    x = np.log(size)
    return np.trapezoid(values, x, axis=0) / (x[-1] - x[0])
