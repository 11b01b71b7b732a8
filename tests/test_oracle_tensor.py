"""The authors' T² form of relative attention and the one row a firing that stands for it give every writer the same
(METHOD.md, sections 14.8 and 14.9).
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from oracle.tensor_form import tensor_rows, tensor_values, trapezoid_weights

CLOSE = 1e-11
"""Of sums of some thousand float64 terms that are at most of the order of 10."""


@pytest.fixture(scope="module")
def heads() -> list[oracle.Head]:
    """Firings of a small model, two keys and more."""
    params, config = oracle.random_model(1, sharpness=1.5, n_layers=3, n_heads=3)
    model = oracle.prepare(params, config, "folded")
    acts = oracle.forward(model.params, model.config, np.random.default_rng(0).integers(0, 23, 7).tolist())
    firings = oracle.relative_firings(acts, {"threshold": 0.25, "skip_first": True}, 6)
    return [oracle.Head(model, acts, firing) for firing in firings]


@pytest.mark.parametrize("side", ["dest", "src"])
def test_writers_sum_alike(heads: list[oracle.Head], side: str) -> None:
    """Catches a bias that is no offset, a pattern of another token, an embedding counted twice."""
    checked = 0
    for head in heads:
        every = list(range(head.rank))
        rows = {w.name: head.row(w, side, every) for w in oracle.writers(head.model.config, head.layer)}
        rows["embed"] = rows["embed"] + rows.pop("pos")
        np.testing.assert_allclose(tensor_rows(head, side).sum(axis=(0, 1, 2, 3)), head.scores, atol=CLOSE)
        for M in (head.M, trapezoid_weights(head.scores, head.src)):
            found = tensor_values(head, side, M)
            assert found.keys() == rows.keys()
            for name, row in rows.items():
                assert abs(found[name] - M @ row) <= CLOSE, (head.firing, side, name)
                checked += 1
    assert checked > 200


def test_the_authors_rule_is_coarser(heads: list[oracle.Head]) -> None:
    """Its error is below section 14.9's bound, and not below ours'."""
    for head in heads:
        off = trapezoid_weights(head.scores, head.src) - head.M
        assert abs(off @ head.scores) <= 7 / 192 * np.ptp(head.scores) ** 3 / 64**2
        assert abs(off @ head.scores) > 1e-12 or np.ptp(head.scores) < 0.5
