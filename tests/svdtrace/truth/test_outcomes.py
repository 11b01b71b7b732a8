"""Precision, recall, angles: on what is made up and counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from svdtrace.truth.outcomes import Edge, Outcome, is_head, score
from svdtrace.truth.traced import largest_angle

HEAD, PLACE = Edge("0.1", "2.0", "src", "B", "end", "B"), Edge("pos", "2.0", "src", "B", "end", "B")
BELOW = Edge("embed", "0.1", "dest", "B", "B", "A")
FALSE, ELSEWHERE = Edge("1.1", "2.0", "src", "B", "end", "B"), Edge("1.1", "2.0", "dest", "end", "end", "B")
ROOT = ("2.0", "end", "B")


def test_every_number_is_counted_as_by_hand():
    outcomes = [
        Outcome(frozenset({HEAD, BELOW}), frozenset({ROOT, BELOW.firing})),
        Outcome(frozenset({HEAD, FALSE, ELSEWHERE}), frozenset({ROOT})),
        Outcome(frozenset(), frozenset()),
    ]
    found = score(outcomes, [HEAD, PLACE, BELOW], heads_alone=False)
    assert (found.prompts, found.true, found.found, found.both) == (3, 9, 5, 3)
    assert found.reached == pytest.approx(2 / 3)
    # Where the head writes: 0.1 twice and 1.1 once are found; what 1.1 does elsewhere does not count.
    assert found.of_heads == (3, 3, 2)
    # In two of three prompts: 0.1 alone.
    assert found.of_most == (3, 1, 1)
    assert found.missed == {"cut": 2, "unreached": 4, "nameless": 0}
    assert found.found_in == {HEAD: 2, BELOW: 1, FALSE: 1, ELSEWHERE: 1}
    assert found.shares() == {
        "precision": 3 / 5,
        "recall": 3 / 9,
        "precision_heads": 2 / 3,
        "recall_heads": 2 / 3,
        "precision_most": 1.0,
        "recall_most": 1 / 3,
    }
    assert score(outcomes, [HEAD, PLACE, BELOW], heads_alone=True).missed == {"cut": 0, "unreached": 4, "nameless": 2}


def test_shares_of_nothing_are_none():
    shares = score([Outcome(frozenset(), frozenset())], [BELOW], heads_alone=False).shares()
    assert shares["precision"] is None
    assert shares["recall"] == 0
    assert shares["recall_heads"] is None


def test_heads_are_told_from_other_writers():
    assert [is_head(name) for name in ("4.11", "mlp.3", "attn_bias.3", "embed", "const")] == [True, *[False] * 4]


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 0.5, 30.0, 60.0, 90.0])
def test_the_largest_angle_is_found_however_small_it_is(angle: float):
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]
    turned = np.cos(np.radians(angle)) * Q[:, :1] + np.sin(np.radians(angle)) * Q[:, 5:6]
    mixed = np.random.default_rng(1).normal(size=(2, 2))
    plane = np.concatenate([turned, Q[:, 1:2]], axis=1) @ mixed
    for found in (largest_angle(plane, Q[:, :4]), largest_angle(Q[:, :4], plane)):
        assert found == pytest.approx(angle, abs=90 * 9 * np.finfo(float).eps * np.linalg.cond(mixed))
