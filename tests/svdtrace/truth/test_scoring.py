"""What is found in planted models: all of it without a background, and what each setting loses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import gpt2jax
from svdtrace.errors import SettingError, TruthError
from svdtrace.prompts import Prompt
from svdtrace.truth.families import FAMILIES
from svdtrace.truth.planting import plant
from svdtrace.truth.rivals import COMPOSITION, Rivals, composition_scores, covering
from svdtrace.truth.scoring import Settings, score_truth

ROOT = ("2.0", "end", "B")


@pytest.mark.whole
@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_background_all_of_every_family_is_found_and_nothing_else(family: str):
    planted = plant(family)
    settings = Settings(methods=("exact",), coverages=(0.7, 0.999), strengths=(), rivals=False)
    found = score_truth(planted.model, planted.circuit.prompts, planted.truth, settings)
    low, high = found.scores.to_pylist()
    assert (high["precision"], high["recall"], high["reached"]) == (1.0, 1.0, 1.0)
    assert high["true"] == 16 * len(planted.truth.edges)
    assert high["angle_most"] < 0.1
    assert low["precision"] == 1.0
    if family == "redundant":
        # Four of five equal writers exceed 0.7; with the fifth goes what it reads.
        assert (low["cut"], low["unreached"], low["recall"]) == (16, 32, pytest.approx(13 / 16))
        missed = [row for row in found.edges.to_pylist() if row["coverage"] < 0.8 and row["share"] < 1]
        assert {(row["writer"], row["reader"]) for row in missed} == {("3.0", "4.0"), ("pos", "3.0")}
    else:
        assert low["recall"] == 1.0


def row(found: Any, **wanted: Any) -> dict[str, Any]:
    rows = [row for row in found.to_pylist() if all(row[name] == value for name, value in wanted.items())]
    assert len(rows) == 1
    return rows[0]


@pytest.mark.whole
def test_a_background_costs_precision_and_the_truth_stays():
    planted = plant("chain", 0.5)
    settings = Settings(methods=("exact",), coverages=(0.7, 0.999), strengths=(0.0, 0.5), rivals=False)
    found = score_truth(planted.model, planted.circuit.prompts, planted.truth, settings).scores
    assert found["strength"].to_pylist() == [0.5, 0.5, 0.0, 0.0]
    weak, strong = (row(found.slice(start, 2), strength=strength) for start, strength in ((3, 0.0), (1, 0.5)))
    assert weak["precision"] == 1 > strong["precision"]
    assert weak["true"] == strong["true"]


def test_a_model_that_was_changed_has_no_others_like_it():
    planted = plant("induction")
    blocks = planted.model.params.blocks
    changed = planted.model.replace(params=planted.model.params.replace(blocks=blocks.replace(b_O=blocks.b_O + 0.01)))
    settings = Settings(methods=("exact",), coverages=(0.7,), strengths=(0.5,), rivals=False)
    found = score_truth(changed, planted.circuit.prompts, planted.truth, settings)
    assert found.manifest["counts"]["models"] == 1


def test_what_does_not_belong_together_is_said():
    planted = plant("induction")
    without = [Prompt(None, (0, 1, 2), ("0", "1", "2"), {"A": 1, "B": 2})]
    with pytest.raises(TruthError, match='prompt 0 has no role "end"'):
        score_truth(planted.model, without, planted.truth)
    with pytest.raises(SettingError, match="method"):
        Settings(methods=("exactly",))
    with pytest.raises(SettingError, match="coverage is 1"):
        Settings(coverages=(1.5,))
    with pytest.raises(SettingError, match="strengths are -1"):
        Settings(strengths=(-1.0,))
    with pytest.raises(SettingError, match="at least one"):
        Settings(coverages=())


def test_a_rival_goes_from_the_roots_to_heads_where_they_fire():
    numbers = {
        ("2.0", "dest", "end"): {"0.0": 1.0, "embed": 9.0},
        ("2.0", "src", "B"): {"1.0": 5.0, "0.1": 0.5},
        ("1.0", "dest", "B"): {"pos": 1.0},
        ("1.0", "src", "A"): {"pos": -1.0, "0.0": 0.0},
    }
    firings = {("2.0", "end", "B"), ("1.0", "B", "A"), ("1.0", "end", "A"), ("1.1", "B", "A")}
    rival = Rivals({"made up": lambda *group: numbers.get(group, {})}, frozenset(firings), frozenset({ROOT}))
    found = rival.outcome("made up", 0.8)
    assert set(map(str, found.edges)) == {
        *("embed:2.0@end:B/dest", "1.0:2.0@end:B/src", "pos:1.0@B:A/dest"),
    }
    assert found.firings == {ROOT, ("1.0", "B", "A")}


@pytest.mark.whole
def test_prompts_without_answers_leave_composition_scores_alone():
    planted = plant("induction")
    prompts = [replace(each, answer=None) for each in planted.circuit.prompts]
    settings = Settings(methods=("exact",), coverages=(0.7,), strengths=())
    found = score_truth(planted.model, prompts, planted.truth, settings).scores
    assert found["method"].to_pylist() == ["exact", COMPOSITION]
    scores = row(found, method=COMPOSITION)
    assert (scores["prompts"], scores["precision_heads"], scores["recall_heads"], scores["nameless"]) == (1, 1, 1, 3)


@pytest.mark.parametrize(
    ("values", "coverage", "taken"),
    [
        ([4.0, 3.0, 2.0, 1.0], 0.69, [True, True, False, False]),
        ([4.0, 3.0, 2.0, 1.0], 0.7, [True, True, True, False]),
        ([1.0, 1.0, 1.0], 0.1, [True, True, True]),
        ([5.0, -4.0, 1.0], 0.7, [True, False, False]),
        ([1.0, -4.0, 0.5], 0.7, [True, False, False]),
        ([0.0, -1.0], 0.7, [False, False]),
        ([2.0, 1.0], 1.0, [True, True]),
        ([], 0.7, []),
    ],
)
def test_the_cut_is_that_of_section_6(values: list[float], coverage: float, taken: list[bool]):
    assert covering(np.asarray(values), coverage).tolist() == taken


def test_composition_scores_are_those_of_the_dense_matrices():
    blocks = gpt2jax.fold(plant("inhibition", 0.5).model).params.blocks
    found = composition_scores(blocks)
    W_Q, W_K, W_V, W_O = (np.asarray(getattr(blocks, f"W_{name}"), np.float64) for name in "QKVO")
    for writer, reader in (((0, 3), (2, 1)), ((1, 1), (4, 0)), ((3, 0), (4, 0))):
        written, read = W_V[writer] @ W_O[writer], W_Q[reader] @ W_K[reader].T
        for side, matrix in (("dest", read), ("src", read.T)):
            dense = np.linalg.norm(written @ matrix) / np.linalg.norm(written) / np.linalg.norm(matrix)
            assert found[side][(*writer, *reader)] == pytest.approx(dense, abs=1e-7)
