"""Orders, sizes, areas and rank correlations against loops and examples worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdtrace.faithfulness.agreement import correlations, evenly, spearman
from svdtrace.faithfulness.curves import Divisor, area, nested_sets, orders, recovered, sizes
from svdtrace.faithfulness.output_heads import overlap

VALUES = st.lists(st.integers(-4, 4), min_size=2, max_size=12)


def pearson_of_ranks(a: list[int], b: list[int]) -> float | None:
    """Spearman's correlation by counting: a value's rank is one more than those below it, half for equal ones."""

    def rank(values: list[int]) -> list[float]:
        return [1 + sum(o < v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values]

    x, y = rank(a), rank(b)
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    product = sum((p - mean_x) * (q - mean_y) for p, q in zip(x, y, strict=True))
    size = math.sqrt(sum((p - mean_x) ** 2 for p in x) * sum((q - mean_y) ** 2 for q in y))
    return product / size if size > 0 else None


@settings(deadline=None)
@given(a=VALUES, data=st.data())
def test_spearman(a: list[int], data: st.DataObject):
    b = data.draw(st.lists(st.integers(-4, 4), min_size=len(a), max_size=len(a)))
    found, expected = spearman(np.asarray(a, float), np.asarray(b, float)), pearson_of_ranks(a, b)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))
    assert spearman(np.asarray(a, float) ** 3, np.asarray(b, float)) == found


def test_one_value_has_no_rank_correlation():
    assert spearman(np.ones(1), np.ones(1)) is None


def test_correlations_name_what_they_compare():
    traced, attribution, patching = np.array([1.0, 2, 3]), np.array([-3.0, 2, -1]), np.array([-1.0, -2, -3])
    found = correlations(traced, attribution, patching)
    assert found["traced_path_patching"] == pytest.approx(-1)
    assert found["traced_size_of_path_patching"] == pytest.approx(1)
    assert found["traced_attribution"] == pytest.approx(0.5)
    assert found["traced_size_of_attribution"] == pytest.approx(-1)
    assert found["attribution_path_patching"] == pytest.approx(-0.5)


def test_orders_take_the_right_edges_first():
    total, traced = np.array([0.0, 3.0, 5.0, 0.0, -1.0]), np.array([False, True, True, False, True])
    scores = np.array([[0.0, -1, 2, 5, 0], [9.0, 8, 7, 6, 5]])
    found = orders(total, traced, scores, seeds=2, seed=7)
    assert [(order.name, order.seed, order.measure) for order in found] == [
        ("traced", None, None),
        ("attribution", None, 0),
        ("attribution", None, 1),
        ("random", 7, None),
        ("random", 8, None),
    ]
    assert [order.edges.tolist() for order in found[:3]] == [[2, 1, 4], [3, 2, 0, 4, 1], [0, 1, 2, 3, 4]]
    assert all(sorted(order.edges.tolist()) == [0, 1, 2, 3, 4] for order in found[1:])
    assert orders(total, traced, scores, 1, 8)[-1].edges.tolist() == found[-1].edges.tolist()


def test_sets_are_nested_and_of_their_size():
    found = orders(np.arange(6.0), np.ones(6, bool), np.zeros((2, 6)), seeds=1, seed=0)
    sets = nested_sets(found, np.array([1, 4]), 6)
    assert len(sets.size) == len(found) * 2 * 2
    assert (sets.members.sum(axis=1) == sets.size).all()
    for row, (order, size) in enumerate(zip(sets.order, sets.size, strict=True)):
        assert set(np.flatnonzero(sets.members[row])) == set(found[order].edges[:size].tolist())
    assert sorted(zip(sets.order, sets.size, sets.kind, strict=True)) == [
        (order, size, kind) for order in range(len(found)) for size in (1, 4) for kind in (0, 1)
    ]


@given(count=st.integers(1, 5000), points=st.integers(1, 20))
def test_sizes_go_from_one_edge_to_all(count: int, points: int):
    found = sizes(count, points)
    assert len(found) <= points
    assert (np.diff(found) > 0).all()
    assert found[0] == 1
    assert found[-1] == (count if points > 1 else 1)


@given(count=st.integers(1, 300), most=st.integers(2, 300))
def test_evenly_spaced_places_have_both_ends(count: int, most: int):
    found = evenly(count, most)
    assert (found[0], found[-1], len(found)) == (0, count - 1, min(count, most))


def test_the_area_is_the_mean_height_over_the_logarithm():
    """From 1 over 10 to 100 edges at heights 0, 1, 3: half of the way at mean 0.5, half at mean 2."""
    heights = np.array([[0.0, 2.0], [1.0, 2.0], [3.0, 2.0]])
    np.testing.assert_allclose(area(heights, np.array([1, 10, 100])), [1.25, 2.0])
    np.testing.assert_allclose(area(heights[1:2], np.array([1])), [1.0, 2.0])


def test_what_is_recovered_is_between_nothing_and_the_clean_run():
    clean, nothing = np.array([4.0, 6.0]), np.array([0.0, 2.0])
    found = recovered(np.stack([clean, nothing, [2.0, 4.0]]), clean, nothing)
    np.testing.assert_allclose(found.mean(axis=1), [1, 0, 0.5])
    assert np.isnan(recovered(clean[None], nothing, nothing)).all()


def test_shares_are_given_where_the_divisor_exceeds_five_of_its_errors():
    """Sixteen prompts, the clean run 1 ± spread above: the error is near spread / 4."""
    nothing, away = np.linspace(0, 3, 16), np.tile([-1.0, 1.0], 8)
    for spread, shown in ((0.7, True), (0.9, False)):
        clean = nothing + 1 + spread * away
        divisor = Divisor.of(clean, nothing)
        assert divisor.mean == pytest.approx(1)
        # The bootstrap's own error is 1 / sqrt(4000).
        assert divisor.in_errors == pytest.approx(4 / spread, rel=0.08)
        assert (divisor.why is None) == shown
        assert np.isnan(recovered(clean[None], clean, nothing)).all() != shown
        assert Divisor.of(nothing, clean).in_errors == divisor.in_errors
    assert "of its standard errors, not above 5" in str(divisor.why)
    assert "one prompt" in str(Divisor.of(np.ones(1), np.zeros(1)).why)
    assert "0 in every prompt" in str(Divisor.of(nothing, nothing).why)
    assert Divisor.of(nothing + 1, nothing).why is None


def test_overlap_counts_as_many_heads_as_are_roots():
    root = np.array([[True, True, False], [False, False, True], [False, False, False]])
    drop = np.array([[3.0, -1, 2], [0.0, 1, 2], [1.0, 2, 3]])
    np.testing.assert_array_equal(overlap(root, drop), [0.5, 1, np.nan])
