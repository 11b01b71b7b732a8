"""Two traces held against each other: integers equal except near ties, floats within what rounding allows."""

from __future__ import annotations

import pyarrow as pa

from laws.examples import Rounding
from svdtrace.method.bounds import ACTIVATION_ERROR

FIRING = ("prompt", "layer", "head", "dest", "src")
EDGE = (*FIRING, "side", "writer")


def by_key(table: pa.Table, names: tuple[str, ...]) -> dict[tuple, dict]:
    return {tuple(row[name] for name in names): row for row in table.to_pylist()}


def near_threshold(row: dict, threshold: float = 0.5) -> bool:
    """Whether rounding may decide a firing the other way."""
    score = ACTIVATION_ERROR * (1 + abs(row["score"]))
    return abs(row["pattern"] - threshold) <= ACTIVATION_ERROR or abs(row["score"]) <= score


def assert_same_firings(one: dict[tuple, dict], other: dict[tuple, dict]) -> None:
    """The same pairs fire, those aside that hang on rounding."""
    for key in one.keys() ^ other.keys():
        assert near_threshold(one.get(key) or other[key]), f"{key} fires in one of the two alone"


def assert_same(one: tuple[pa.Table, pa.Table], other: tuple[pa.Table, pa.Table], rounding: Rounding) -> int:
    """Hold firings and edges of two traces that follow every firing against each other.

    Returns:
        How many edges were compared.
    """
    firings, firings_too = by_key(one[0], FIRING), by_key(other[0], FIRING)
    assert_same_firings(firings, firings_too)
    decided = set()
    for key in firings.keys() & firings_too.keys():
        mine, theirs = firings[key], firings_too[key]
        bound = rounding.product(mine)
        assert abs(mine["pattern"] - theirs["pattern"]) <= ACTIVATION_ERROR
        assert abs(mine["score"] - theirs["score"]) <= bound
        assert abs(mine["total"] - theirs["total"]) <= bound
        if mine["near_tie"] or theirs["near_tie"]:
            continue
        decided.add(key)
        # Products that are nearly equal may swap places within a slice.
        assert sorted(mine["slice"]) == sorted(theirs["slice"])
        products = dict(zip(theirs["slice"], theirs["products"], strict=True))
        for k, product in zip(mine["slice"], mine["products"], strict=True):
            assert abs(product - products[k]) <= bound
    return _assert_same_edges(one[1], other[1], decided, rounding)


def _assert_same_edges(one: pa.Table, other: pa.Table, decided: set[tuple], rounding: Rounding) -> int:
    edges, edges_too = by_key(one, EDGE), by_key(other, EDGE)
    tied = {(*key[:5], key[5]) for rows in (edges, edges_too) for key, row in rows.items() if row["near_tie"]}

    def settled(rows: dict[tuple, dict]) -> set[tuple]:
        return {key for key in rows if key[:5] in decided and key[:6] not in tied}

    assert settled(edges) == settled(edges_too)
    for key in settled(edges):
        mine, theirs = edges[key], edges_too[key]
        assert abs(mine["weight"] - theirs["weight"]) <= rounding.weight(mine)
        for name in ("token", "writer_layer", "writer_head", "nonpositive_total"):
            assert mine[name] == theirs[name]
    return len(settled(edges))
