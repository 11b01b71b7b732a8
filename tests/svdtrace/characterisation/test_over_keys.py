"""Characterisation under relative attention, against the slow float64 truth: slices of P_k at firings and at other
pairs, and what heads contribute through them (METHOD.md, sections 9 and 14.2).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import oracle
import pytest
from oracle import characterisation as truth

import svdtrace
from svdtrace.characterisation.characterising import characterise
from svdtrace.characterisation.concentration import MEASURES
from svdtrace.characterisation.filtering import filtering_of
from svdtrace.characterisation.usage import TAUS, head_usage
from svdtrace.errors import SettingError
from svdtrace.tracing.devices import precision
from svdtrace.tracing.rows import SIDES
from svdtrace.tracing.trace import prepare_cached

CONFIG = svdtrace.TraceConfig(method="relative", threshold=0.3, dtype="float64", score_min=0.05)
SETTINGS = {**oracle.RELATIVE, "method": "relative", "threshold": 0.3}
FIRING = ("prompt", "layer", "head", "dest", "src")


@pytest.fixture(scope="module")
def few(prompts):
    return prompts[1:2]


@pytest.fixture(scope="module")
def theirs(model, few):
    return truth.Pairs(oracle.prepare(*model[:2], "folded"), few, SETTINGS)


@pytest.fixture(scope="module")
def ours(model, few):
    with jax.numpy_dtype_promotion("standard"):
        return head_usage(model[2], few, CONFIG, most_pairs=10**6)


@pytest.mark.whole
def test_slices_are_the_oracles_where_heads_fire_and_where_they_do_not(ours, theirs):
    """Catches slices of the score, a least score, and path weights of another pair."""
    where = ours.firings.where
    keys = list(zip(*(getattr(where, name).tolist() for name in FIRING), strict=True))
    assert keys == sorted(theirs.fired)
    for row, key in enumerate(keys):
        slice_ = theirs.fired[key]
        assert np.flatnonzero(ours.firings.members[row]).tolist() == sorted(slice_.members)
        assert ours.firings.total[row] == pytest.approx(slice_.total, rel=1e-9, abs=1e-9)
        half = oracle.choose_slice(theirs.products[key], np.zeros(len(theirs.products[key])), TAUS[0])
        assert ours.firings.size_at[row, 0] == len(half.members)
    wanted = Counter((key[1], key[2], len(found.members)) for key, found in theirs.idle.items())
    assert min(found.total for found in theirs.idle.values()) < 0
    assert {tuple(key): int(ours.idle[tuple(key)]) for key in np.argwhere(ours.idle).tolist()} == dict(wanted)


@pytest.mark.full
def test_contributions_are_the_oracles(model, few, ours, theirs):
    """Catches the key's own output for what was written at all keys, and κ on the wrong side."""
    folded, found = oracle.prepare(*model[:2], "folded"), ours.firings.where
    keys = [key for key in theirs.fired if key[1]]
    with jax.numpy_dtype_promotion("standard"), precision(CONFIG):
        filtered = filtering_of(prepare_cached(model[2], CONFIG), few, CONFIG, keys[-1])
    assert len(filtered.measures) == len(keys) < len(found)
    edges = set()
    for key in keys:
        every = range(int(folded.svd.rank[key[1], key[2]]))
        for z, side in enumerate(SIDES):
            of = (folded, theirs.acts[0], key[1:])
            weights = [truth.head_contributions(*of, S, "relative", side) for S in (theirs.fired[key].members, every)]
            edges |= {(*key, z, w) for w in oracle.coverage_cut(weights[0], CONFIG.coverage).chosen}
            if key == keys[-1]:
                shown = filtered.example[:, z, : len(weights[0])]
                np.testing.assert_allclose(shown, weights, rtol=1e-8, atol=1e-10)
    its = filtered.edges
    columns = (its.prompt, its.layer, its.head, its.dest, its.src, its.side, its.writer)
    assert set(zip(*(column.tolist() for column in columns), strict=True)) == edges
    assert np.isfinite(filtered.measures[:, MEASURES.index("net")]).all()


@pytest.mark.full
def test_the_whole_of_it(model, prompts, tmp_path):
    """Catches a table or a picture that needs another method."""
    found = characterise(model[2], prompts, prompts[:2], replace(CONFIG, dtype="float32", keys="own"))
    assert found.manifest["config"]["method"] == "relative"
    assert found.tables["filtering"].num_rows > 0
    assert found.tables["signals"].num_rows > 0
    found.save(tmp_path / "relative")


def test_what_has_no_one_value_is_refused(model, prompts):
    for config in (replace(CONFIG, keys="all"), replace(CONFIG, select="until")):
        with pytest.raises(SettingError, match=r"choose (summed or own|cover)"):
            characterise(model[2], prompts, None, config)
        with pytest.raises(SettingError, match=r"choose (summed or own|cover)"):
            svdtrace.chance(model[2], prompts, config)
