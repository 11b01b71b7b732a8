"""What the nulls draw, and what follows from it whatever is drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svdtrace.method.edges import covering
from svdtrace.method.slices import choose_slices
from svdtrace.nulls.chance import enough, p_values, q_values, smallest_q
from svdtrace.nulls.draws import (
    close_groups,
    distinct_partners,
    firsts,
    kind_key,
    partners,
    random_rotations,
    random_slices,
    rank_groups,
)
from svdtrace.nulls.edge_statistic import edge_shares, slice_members

EPS = float(np.finfo(np.float32).eps)
H = 6
RANK = np.array([[True] * 6, [True] * 4 + [False] * 2, [True] + [False] * 5])


def rotations(seed: int, null: list[int]) -> np.ndarray:
    key = kind_key(seed, "bases")
    return np.asarray(
        random_rotations(key, np.array(null, np.int32), rank_groups(jnp.asarray(RANK)), jnp.dtype("float32"))
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_turned_bases_leave_scores_as_they_are(seed: int) -> None:
    """(q̂ R)·(k̂ R) = q̂·k̂, to the rounding of two products of h terms each; beyond the rank nothing mixes."""
    R = rotations(seed, [0])[0]
    rng = np.random.default_rng(seed)
    q, k = (np.where(RANK, rng.normal(size=RANK.shape), 0).astype(np.float32) for _ in range(2))
    turned = [np.einsum("nk,nkm->nm", each, R) for each in (q, k)]
    size = np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1)
    # Householder's Q is orthogonal to a modest multiple of h eps.
    assert np.all(np.abs((turned[0] * turned[1]).sum(-1) - (q * k).sum(-1)) <= 10 * H * EPS * size)
    assert all(np.all(each[~RANK] == 0) for each in turned)


def test_what_was_observed_is_the_identity() -> None:
    R = rotations(0, [-1, 0, 1])
    assert np.array_equal(R[0], np.broadcast_to(np.eye(H), R[0].shape))
    assert np.abs(R[1][0] - R[2][0]).max() > 0.1
    assert np.array_equal(rotations(0, [1])[0], R[2])


def test_rotations_are_haar() -> None:
    """The first column is uniform on the sphere: mean 0, variance 1/h, and its sign is fair."""
    many = 2000
    column = rotations(1, list(range(many)))[:, 0, :, 0]
    # Five standard errors; the variance of x² on the sphere is below 2/h².
    assert np.all(np.abs(column.mean(axis=0)) <= 5 / np.sqrt(H * many))
    assert np.all(np.abs((column**2).mean(axis=0) - 1 / H) <= 5 * np.sqrt(2 / many) / H)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(0, 4))
def test_random_slices_have_the_size_and_keep_to_the_rank(seed: int, size: int) -> None:
    names = jnp.asarray(np.random.default_rng(seed).integers(0, 1000, (5, 2)).astype(np.uint32))
    sizes, rank = jnp.full(5, size, jnp.int32), jnp.asarray(np.tile(RANK[1], (5, 1)))
    key = kind_key(seed, "slices")
    drawn = np.asarray(random_slices(key, names, sizes, rank))
    assert np.all(drawn.sum(-1) == size)
    assert not np.any(drawn & ~RANK[1])
    # A firing's draw is its own: alone or in another order it is the same.
    again = np.asarray(random_slices(key, names[::-1], sizes, rank))[::-1]
    assert np.array_equal(drawn, again)


def test_random_slices_take_every_vector_alike() -> None:
    many = 4000
    names = jnp.asarray(np.stack([np.arange(many), np.zeros(many)], -1).astype(np.uint32))
    drawn = random_slices(jax.random.key(0), names, jnp.full(many, 2, jnp.int32), jnp.ones((many, 5), bool))
    assert np.asarray(drawn).mean(axis=0) == pytest.approx(0.4, abs=5 * np.sqrt(0.24 / many))
    # Another null's draw is another: of ten pairs it is the same one by chance.
    other = random_slices(jax.random.key(1), names, jnp.full(many, 2, jnp.int32), jnp.ones((many, 5), bool))
    same = np.all(np.asarray(drawn) == np.asarray(other), axis=-1)
    assert same.mean() == pytest.approx(0.1, abs=5 * np.sqrt(0.09 / many))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 100))
def test_partners_are_others_of_the_same_length(lengths: list[int], seed: int) -> None:
    length = np.asarray(lengths)
    chosen = partners(seed, 0, length)
    assert sorted(chosen) == list(range(len(length)))
    assert np.array_equal(length[chosen], length)
    alone = np.asarray([lengths.count(each) == 1 or each == 0 for each in lengths])
    assert np.array_equal(chosen == np.arange(len(length)), alone)
    assert np.array_equal(partners(seed, -1, length), np.arange(len(length)))


def test_close_singular_values_share_a_group() -> None:
    S = jnp.array([[2.0, 1.9985, 1.0, 0.9991, 0.9983, 0.5]], jnp.float32)
    assert np.asarray(close_groups(S, 1e-3))[0].tolist() == [0, 0, 1, 1, 1, 2]


def test_shares_are_those_of_positive_edges() -> None:
    weight = jnp.array([[3.0, -1.0, 0.5, 0.0], [-2.0, -1.0, -3.0, 0.0], [1.0, -9.0, 0.0, 0.0]], jnp.float32)
    shares = np.asarray(edge_shares(weight[..., None], 0.7))[..., 0]
    assert shares[0].tolist() == pytest.approx([3 / 4.5, 0, 0, 0])
    assert np.all(shares[1] == 0)
    # The total is negative; the largest is chosen, and its share lies between 0 and 1.
    assert shares[2].tolist() == pytest.approx([0.1, 0, 0, 0])


WHOLE = st.lists(st.lists(st.integers(-9, 9), min_size=40, max_size=40), min_size=3, max_size=3)


@pytest.mark.whole
@settings(max_examples=12, deadline=None)
@given(WHOLE, st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_shares_and_slices_are_section_6s_and_4s(rows: list[list[int]], share: float) -> None:
    """Small whole numbers, whose sums are exact in any order: equal values and sums that hit the goal are common."""
    values = jnp.asarray(rows, jnp.float32)
    chosen = np.asarray(covering(values, share)) & (np.asarray(values) > 0)
    found = np.asarray(edge_shares(values[..., None], share))[..., 0]
    assert np.array_equal(found > 0, chosen)
    assert found == pytest.approx(np.where(chosen, values, 0) / np.maximum(1, np.abs(values).sum(-1, keepdims=True)))
    members = np.asarray(choose_slices(values, jnp.zeros_like(values), share).members)
    # Of negative totals too, with the signs turned round.
    assert np.array_equal(np.asarray(slice_members(values[..., None], share))[..., 0], members)


def test_blocks_are_summed_at_their_first() -> None:
    group = close_groups(jnp.array([[2.0, 1.9985, 1.0, 0.9991, 0.9983, 0.5]], jnp.float32), 1e-3)
    first = np.asarray(firsts(group, jnp.dtype("float32")))[0]
    assert (first @ np.arange(6)).tolist() == [1, 0, 9, 0, 0, 5]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=4, max_size=4), min_size=1, max_size=6))
def test_distinct_partners_give_back_every_null(rows: list[list[int]]) -> None:
    partner = np.asarray(rows)
    choice, which = distinct_partners(partner)
    assert np.array_equal(np.take_along_axis(choice, which, axis=0), partner)
    assert len(choice) == max(len(np.unique(column)) for column in partner.T)


def test_p_counts_ties_against_the_edge() -> None:
    nulls = np.array([[0.5, 0.1], [0.5 - 1e-7, 0.3], [0.2, 0.2]])
    assert p_values(np.array([0.5, 0.4]), nulls).tolist() == [3 / 4, 1 / 4]
    # Candidates that were not observed count among the tests.
    assert q_values(np.array([0.01, 0.02]), 10).tolist() == pytest.approx([0.1, 0.1])
    assert enough(1000, 100) == 200
    assert enough(10, 10) == 99
    assert smallest_q(199, 1000, 100) == pytest.approx(0.05)
