"""Path counts: exact in all integers, held at 2^63 - 1 in the table (METHOD.md, section 7)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from svdtrace.method.firings import FiringList
from svdtrace.tracing.paths import LARGEST, count_paths, reached, saturated
from svdtrace.tracing.rows import EdgeRows, Ragged, RelativeEdges, WriterOrder


def firing_list(places: list[tuple[int, int, int, int, int]]) -> FiringList:
    columns = np.asarray(places, np.int32).reshape(-1, 5).T
    nothing = np.zeros(len(places), np.float32)
    return FiringList(*columns, pattern=nothing, score=nothing)


def edge_rows(firings: FiringList, rows: list[tuple[int, int, int]]) -> EdgeRows:
    """Edges (firing, side, writer)."""
    firing, side, writer = np.asarray(rows, np.int64).reshape(-1, 3).T
    nothing = np.zeros(len(rows), np.float32)
    token = np.where(side == 0, firings.dest[firing], firings.src[firing])
    return EdgeRows(firing, side.astype(np.int8), writer, nothing, nothing, nothing.astype(bool), token)


def ladder(n_layers: int) -> tuple[FiringList, EdgeRows, WriterOrder]:
    """Layers of one head that fires from token 1 to token 1 and to token 0.

    Each firing has one edge, on its destination side, to the head below, so that ways double with every layer.
    """
    order = WriterOrder.of(n_layers, 1)
    firings = firing_list([(0, layer, 0, 1, src) for layer in range(1, n_layers) for src in (0, 1)])
    edges = [(row, 0, int(firings.layer[row]) - 1) for row in range(len(firings)) if firings.layer[row] > 1]
    return firings, edge_rows(firings, edges), order


@pytest.mark.parametrize("n_layers", [2, 10, 63, 64, 65, 71])
def test_ways_double_down_a_ladder(n_layers: int) -> None:
    """Catches 64-bit sums that wrap round, and float64 ones that lose the last bits."""
    firings, edges, order = ladder(n_layers)
    paths = count_paths(firings, edges, np.asarray(firings.layer == n_layers - 1), order)
    expected = [2 ** (n_layers - 1 - int(layer)) for layer in firings.layer]
    assert [int(count) for count in paths] == expected
    held, beyond = saturated(paths)
    assert held.dtype == np.int64
    assert held.tolist() == [min(count, LARGEST) for count in expected]
    assert beyond == sum(count > LARGEST for count in expected)


def test_counts_beyond_float64_are_exact() -> None:
    """Catches counting in floats: with every firing a root the counts are 2^n - 1, which float64 holds only to 2^53."""
    firings, edges, order = ladder(62)
    paths = count_paths(firings, edges, np.ones(len(firings), bool), order)
    assert [int(count) for count in paths] == [2 ** (62 - int(layer)) - 1 for layer in firings.layer]
    assert saturated(paths)[1] == 0


def test_the_largest_count_itself_is_not_saturated() -> None:
    """Catches >= for >."""
    assert saturated(np.asarray([LARGEST, LARGEST + 1, 5], object))[0].tolist() == [LARGEST, LARGEST, 5]
    assert saturated(np.asarray([LARGEST, LARGEST + 1, 5], object))[1] == 1


@settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(seed=st.integers(0, 2**16))
def test_equals_recursion(seed: int) -> None:
    """Catches edges that lead to another prompt, head or destination, and non-head writers that lead anywhere."""
    rng = np.random.default_rng(seed)
    order = WriterOrder.of(4, 2)
    every = [
        (p, layer, head, d, s)
        for p in range(2)
        for layer in (1, 2, 3)
        for head in (0, 1)
        for d in (1, 2)
        for s in (1, 2)
    ]
    places = [place for place in every if rng.random() < 0.6]
    firings = firing_list(places)
    rows = [
        (row, side, int(writer))
        for row, place in enumerate(places)
        for side in (0, 1)
        for writer in order.codes_below(place[1])
        if rng.random() < 0.4
    ]
    roots = rng.random(len(places)) < 0.4

    @cache
    def ways(f: int) -> int:
        prompt, layer, head, dest, _ = places[f]
        above = 0
        for firing, side, writer in rows:
            reader = places[firing]
            leads = (reader[0], order.labels[writer], reader[4] if side else reader[3])
            if leads == (prompt, f"{layer}.{head}", dest):
                above += ways(firing)
        return int(roots[f]) + above

    assert count_paths(firings, edge_rows(firings, rows), roots, order).tolist() == [
        ways(f) for f in range(len(places))
    ]


def test_nothing_fires() -> None:
    order = WriterOrder.of(3, 2)
    none = firing_list([])
    assert count_paths(none, edge_rows(none, []), np.zeros(0, bool), order).tolist() == []
    assert [each.tolist() for each in reached(none, edge_rows(none, []), order)] == [[], []]


def test_an_edge_leads_where_it_goes_through() -> None:
    """Catches every firing of the writer followed, another token's, and lists that move when edges are left out."""
    order = WriterOrder.of(3, 2)
    firings = firing_list([(0, 1, 0, 2, 1), (0, 1, 0, 2, 2), (0, 1, 0, 3, 1), (0, 1, 1, 2, 1), (0, 2, 0, 3, 2)])
    edges = edge_rows(firings, [(4, 0, 2), (4, 1, 2), (4, 1, 3), (4, 1, 5)])
    nothing = np.zeros(4)
    through = Ragged(np.asarray([0, 1, 4, 5, 5]), np.asarray([1, 0, 1, 2, 1]))
    edges = replace(edges, relative=RelativeEdges(*[nothing] * 6, through=through))
    roots = np.asarray([False, False, False, False, True])
    assert [each.tolist() for each in reached(firings, edges, order)] == [[0, 1, 1, 2], [2, 0, 1, 3]]
    assert count_paths(firings, edges, roots, order).tolist() == [1, 1, 1, 1, 1]
    some = edges.take(np.asarray([1, 3]))
    assert [each.tolist() for each in reached(firings, some, order)] == [[0, 0], [0, 1]]
