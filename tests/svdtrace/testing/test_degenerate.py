"""What comes out where there is nothing to decide, or everything at once: each row of docs/verification.md's table."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from laws.examples import SHORT_HEAD, random_model, random_prompts, shortened

import svdtrace
from svdtrace.config import TraceConfig
from svdtrace.interventions.signals import drawn
from svdtrace.method.edges import choose_edges
from svdtrace.method.slices import choose_slices
from svdtrace.testing import Case, decomposition_laws, law
from svdtrace.testing.listing import of_heads

PAGE = Path(__file__).resolve().parents[3] / "docs" / "verification.md"


@pytest.fixture(scope="module")
def case() -> Case:
    """A model whose head 1.2 has no query weights at all."""
    return Case(shortened(random_model(3), 0), tuple(random_prompts(2)), TraceConfig(writers="all"))


# One shape each; a product of 0 is in no slice, -inf is no writer.
PRODUCTS, WRITERS = 4, 4
_slices, _edges = jax.jit(choose_slices), jax.jit(choose_edges)


def slices(*products: float, tau: float = 1.0) -> tuple[list[int], float, bool]:
    row = np.float32([[*products, *[0] * (PRODUCTS - len(products))]])
    found = _slices(row, np.zeros_like(row), np.float32(tau))
    return np.flatnonzero(found.members[0]).tolist(), float(found.total[0]), bool(found.near_tie[0])


def edges(*weights: float, coverage: float = 0.7) -> tuple[list[int], float, bool]:
    row = np.float32([[*weights, *[-np.inf] * (WRITERS - len(weights))]])
    found = _edges(row, np.zeros(1, np.float32), np.float32(coverage))
    return np.flatnonzero(found.chosen[0]).tolist(), float(found.total[0]), bool(found.near_tie[0])


@pytest.mark.whole
def test_a_head_without_weights(case: Case) -> None:
    layer, head = SHORT_HEAD
    assert not np.any(np.asarray(case.decomposition.S)[layer, head])
    assert not np.any(np.asarray(case.decomposition.within_rank())[layer, head])
    assert of_heads(law("orthonormal"), case.processed, case.decomposition).holds
    scores = case.own.taps["attn.hook_attn_scores"][layer, :, head]
    allowed = np.broadcast_to(case.pairs[:, 0], scores.shape)
    assert np.all(scores[allowed] == 0)
    rows = [row for row in case.trace.firings.to_pylist() if (row["layer"], row["head"]) == SHORT_HEAD]
    assert {(row["dest"], row["src"]) for row in rows} == {(1, 1)}
    for row in rows:
        assert row["pattern"] == 0.5
        assert (row["score"], row["total"], row["size"], row["slice"], row["near_tie"]) == (0, 0, 0, [], False)
    assert SHORT_HEAD not in {(row["layer"], row["head"]) for row in case.trace.edges.to_pylist()}


def test_a_score_of_zero_has_an_empty_slice() -> None:
    assert slices(0.0, 0.0, 0.0) == ([], 0.0, False)
    assert slices(2.0, -2.0, 0.0)[:2] == ([], 0.0)


def test_products_of_one_sign_are_all_taken() -> None:
    assert slices(1.0, 3.0, 0.0, 2.0) == ([0, 1, 3], 6.0, True)
    assert slices(-1.0, -3.0, 0.0) == ([0, 1], -4.0, True)


def test_ties_of_products_take_the_lower() -> None:
    assert slices(1.0, 2.0, 2.0, 2.0, tau=0.5) == ([1, 2], 7.0, True)


def test_ties_of_contributions_take_all() -> None:
    assert edges(1.0, 2.0, 2.0, 2.0, coverage=0.5) == ([1, 2, 3], 7.0, True)


def test_a_negative_total_turns_the_signs() -> None:
    assert slices(1.0, -4.0, -3.0, 0.5, tau=0.5) == ([1], -5.5, False)


@pytest.mark.parametrize(
    ("weights", "chosen", "total"),
    [
        ((1.0, -3.0, 0.5), [0], -1.5),
        ((-1.0, -3.0), [0], -4.0),
        ((-2.0,), [], -2.0),
        ((3.0, -3.0, 0.0), [0], 0.0),
        ((0.0, 0.0), [], 0.0),
    ],
)
def test_contributions_without_a_positive_total(weights: tuple[float, ...], chosen: list[int], total: float) -> None:
    assert edges(*weights)[:2] == (chosen, total)


def test_a_slice_of_the_whole_rank_leaves_nothing_to_draw() -> None:
    rank = np.asarray([True, True, True, False])
    chosen, short = drawn(rank[None], rank, np.zeros(1, int), "0.1:2.1@4:1/dest", 0)
    assert not chosen.any()
    assert short.all()


def test_a_decomposition_of_nothing_holds_its_laws() -> None:
    A, B = np.zeros((5, 2)), np.ones((5, 2))
    U, S, Vh = np.linalg.svd(A @ B.T)
    assert all(each.holds for each in decomposition_laws(A, B, U[:, :2], S[:2], Vh[:2].T))
    assert not all(each.holds for each in decomposition_laws(A, B, U[:, :2], S[:2] + 1, Vh[:2].T))


@pytest.mark.full
def test_there_is_nothing_to_take_from_a_score_of_zero(case: Case) -> None:
    """Edits of either direction leave a firing of W_Q = 0, whose slice is empty, as it is."""
    layer, head = SHORT_HEAD
    edge = f"0.0:{layer}.{head}@1:1/dest"
    table = svdtrace.intervene(case.model, case.prompts, [edge], tracing=case.config).table.to_pylist()
    assert table
    for row in table:
        assert not row["edited"]
        assert row["score_before"] == row["score_after"] == 0
        assert row["pattern_before"] == row["pattern_after"] == 0.5
        assert row["logit_difference_before"] == row["logit_difference_after"]


# The rows of the page's table, and what shows each.
SHOWN = {
    "score 0": [test_a_score_of_zero_has_an_empty_slice, test_there_is_nothing_to_take_from_a_score_of_zero],
    "all products of one sign": [test_products_of_one_sign_are_all_taken],
    "ties at a cut of a slice": [test_ties_of_products_take_the_lower],
    "ties at a cut of edges": [test_ties_of_contributions_take_all],
    "negative total of a pair": [test_a_negative_total_turns_the_signs],
    "total of contributions below 0": [test_contributions_without_a_positive_total],
    "total of contributions 0": [test_contributions_without_a_positive_total],
    "W_Q = 0 and b_Q = 0": [test_a_head_without_weights, test_a_decomposition_of_nothing_holds_its_laws],
    "|S| = rank": [test_a_slice_of_the_whole_rank_leaves_nothing_to_draw],
}


def test_every_row_of_the_page_is_shown() -> None:
    section = PAGE.read_text("utf-8").split("## Degenerate answers")[1]
    rows = re.findall(r"^\| (.*?[^\\]) \|", section, re.MULTILINE)[2:]
    assert [row.replace("\\|", "|") for row in rows] == list(SHOWN)
