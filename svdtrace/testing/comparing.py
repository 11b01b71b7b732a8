"""Two traces of what should be the same, held against each other: integers equal except where METHOD.md flags them,
floats within what rounding allows both.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.method.ratios import ACTIVATION, Ratio, nothing
from svdtrace.testing.cases import Attribution, Case

FIRING = ("prompt", "layer", "head", "dest", "src")
EDGE = (*FIRING, "side", "writer")
SIDES = ("dest", "src")

Row = dict[str, Any]
Renamed = Callable[[Row], Row]


class Worst:
    """The largest of many ratios, each of an error and the bound that METHOD.md, sections 3 and 4, gives of it."""

    def __init__(self) -> None:
        self.value, self.place, self.tried = 0.0, "nothing differs", 0

    def take(self, error: float, bound: float, place: str) -> None:
        """Take an error, in units of which METHOD.md's bound makes 5e-5 / ulp."""
        self.tried += 1
        ratio = 0.0 if error == 0 else ACTIVATION * error / bound if bound > 0 else np.inf
        if not ratio <= self.value:
            self.value, self.place = float(ratio), place

    def refuse(self, place: str) -> None:
        """Take what no rounding explains."""
        self.take(1.0, 0.0, place)


def by_key(table: pa.Table, names: tuple[str, ...], renamed: Renamed | None = None) -> dict[tuple, Row]:
    """Rows by what tells them from each other, called by other names where asked."""
    rows = table.to_pylist() if renamed is None else map(renamed, table.to_pylist())
    return {tuple(row[name] for name in names): row for row in rows}


def compared(
    law: str,
    one: Case,
    other: Case,
    *,
    renamed: Renamed | None = None,
    only: int | None = None,
    gain: float = 1.0,
    slices: bool = True,
) -> Ratio:
    """Firings, slices and edges of two cases that should give the same.

    The ratio is the largest of `error / (bound / (5e-5/ulp))`; both sides err by at most their bound, so that it must
    be below `2 · 5e-5/ulp`. It is infinite where one of the two has a firing, slice or edge that the other has not,
    though METHOD.md's flags say that rounding cannot decide it.

    Args:
        renamed: what a row of `other` is called in `one`.
        only: the one prompt of `one` that `other` has.
        gain: by how much the change between them magnifies errors.
        slices: whether slices and edges are compared, too.
    """
    worst = Worst()
    mine = {at: row for at, row in by_key(one.trace.firings, FIRING).items() if only is None or at[0] == only}
    theirs = by_key(other.trace.firings, FIRING, renamed)
    may = {tuple(row[name] for name in FIRING) for row in one.undecided}
    may |= {tuple(row[name] for name in FIRING) for row in map(renamed or dict, other.undecided)}
    for at in sorted((mine.keys() ^ theirs.keys()) - may):
        worst.refuse(f"{firing_name(at)} fires in one alone")
    bounds = Bounds(one.attribution)
    both = sorted(mine.keys() & theirs.keys())
    for at in both:
        _same_scores(worst, mine[at], theirs[at], at, bounds)
    if slices:
        decided = {at for at in both if _same_slice(worst, mine[at], theirs[at], at, bounds)}
        _same_edges(worst, one, other, renamed, decided, bounds)
    threshold = 2 * ACTIVATION * gain
    return Ratio(law, worst.value, threshold, worst.place) if worst.tried else nothing(law, threshold)


class Bounds:
    """The bounds of a case's firings, by where these stand."""

    def __init__(self, attribution: Attribution) -> None:
        self.made = attribution
        firings = attribution.firings
        columns = (getattr(firings, name).tolist() for name in FIRING)
        self.row = {at: row for row, at in enumerate(zip(*columns, strict=True))}


def firing_name(at: tuple) -> str:
    """`prompt 0: 1.2@3:2`."""
    return "prompt {}: {}.{}@{}:{}".format(*at)


def _same_scores(worst: Worst, mine: Row, theirs: Row, at: tuple, bounds: Bounds) -> None:
    made, row, name = bounds.made, bounds.row[at], firing_name(at)
    of_score = float(made.score_bound[row])
    worst.take(abs(mine["pattern"] - theirs["pattern"]), float(made.pattern_bound[row]), f"{name}, pattern")
    worst.take(abs(mine["score"] - theirs["score"]), of_score, f"{name}, score")
    worst.take(abs(mine["total"] - theirs["total"]), of_score / float(made.attn_scale[row]), f"{name}, total")


def _same_slice(worst: Worst, mine: Row, theirs: Row, at: tuple, bounds: Bounds) -> bool:
    """Hold slices against each other; whether S is decided, and the same."""
    made, place, name = bounds.made, bounds.row[at], firing_name(at)
    if any(less > more for row in (mine, theirs) for more, less in pairwise(row["products"])):
        worst.refuse(f"{name}, order of products")
    if mine["near_tie"] or theirs["near_tie"]:
        return False
    # Products that are nearly equal may swap places within a slice.
    if sorted(mine["slice"]) != sorted(theirs["slice"]):
        worst.refuse(f"{name}, slice")
        return False
    products = dict(zip(theirs["slice"], theirs["products"], strict=True))
    for k, product in zip(mine["slice"], mine["products"], strict=True):
        worst.take(abs(product - products[k]), float(made.product_bound[place, k]), f"{name}, p_{k}")
    return True


def _same_edges(
    worst: Worst, one: Case, other: Case, renamed: Renamed | None, decided: set[tuple], bounds: Bounds
) -> None:
    mine, theirs = by_key(one.trace.edges, EDGE), by_key(other.trace.edges, EDGE, renamed)
    tied = {at[:6] for rows in (mine, theirs) for at, row in rows.items() if row["near_tie"]}

    def settled(rows: dict[tuple, Row]) -> set[tuple]:
        return {at for at in rows if at[:5] in decided and at[:6] not in tied}

    for at in sorted(settled(mine) ^ settled(theirs)):
        worst.refuse(f"{firing_name(at)}, edge {at[6]}/{at[5]} in one alone")
    for at in settled(mine) & settled(theirs):
        bound = float(bounds.made.bound[SIDES.index(at[5]), bounds.row[at[:5]]])
        name = f"{firing_name(at)}, edge {at[6]}/{at[5]}"
        worst.take(abs(mine[at]["weight"] - theirs[at]["weight"]), bound, name)
        if any(mine[at][each] != theirs[at][each] for each in ("token", "writer_layer", "writer_head")):
            worst.refuse(name)
