"""What the tables and the manifest make of measurements: of made-up runs, one measure blind and one not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from svdtrace.faithfulness import tables
from svdtrace.faithfulness.curves import nested_sets, orders
from svdtrace.faithfulness.editing import MEASURES
from svdtrace.faithfulness.figures import curves_picture
from svdtrace.faithfulness.measured import ENDS, Measured
from svdtrace.faithfulness.summary import default_measure, summary

N_PROMPTS, N_EDGES = 16, 6


@pytest.fixture(scope="module", params=[0, 1])
def blind(request: pytest.FixtureRequest) -> int:
    """The measure whose runs without any signal are as good as the clean ones."""
    return request.param


@pytest.fixture(scope="module")
def measured(blind: int) -> Measured:
    rng = np.random.default_rng(0)
    nothing = rng.normal(size=(2, N_PROMPTS))
    clean = nothing + rng.normal(4, 0.5, size=(2, N_PROMPTS))
    clean[blind] = nothing[blind] + rng.normal(0, 0.5, N_PROMPTS)
    ordered = orders(np.arange(6.0), np.ones(N_EDGES, bool), rng.normal(size=(2, N_EDGES)), seeds=2, seed=0)
    sets = nested_sets(ordered, np.array([1, 3, 6]), N_EDGES)
    of_sets = nothing + rng.uniform(size=(len(sets.size), 1, 1)) * (clean - nothing)
    ends = dict(zip(ENDS, (nothing, clean, clean, nothing), strict=True))
    patched = rng.normal(size=(4, 2, N_PROMPTS))
    return Measured(ordered, sets, of_sets, np.arange(4), patched, ends)


def test_a_value_or_a_reason_stands_in_every_row(measured: Measured, blind: int):
    for measure, name in enumerate(MEASURES):
        rows = tables.faithfulness_table(measured, measure).to_pylist()
        nothing, clean = (measured.ends[end][measure].mean() for end in ("nothing", "clean"))
        assert len(rows) == 2 * 3 * (1 + 1 + 2)
        for row in rows:
            if measure == blind:
                assert row["value"] is None
                assert "of its standard errors, not above 5" in row["why"]
            else:
                assert row["why"] is None
                # Columns are float32.
                assert row["value"] == pytest.approx((row[name] - nothing) / (clean - nothing), abs=1e-5)


def test_the_manifest_says_the_divisor_and_no_share_of_a_blind_measure(measured: Measured, blind: int):
    assert default_measure(measured) == MEASURES[1 - blind]
    for measure in range(len(MEASURES)):
        agreement = tables.agreement_table(list("abcd"), np.arange(4.0), np.zeros((2, 4)), measured, measure)
        found = summary(measured, agreement, measure)
        divisor, area = found["divisor"], found["areas"]["faithfulness"]["traced"]
        assert (divisor["in_standard_errors"] > 5) == (measure != blind)
        assert divisor["in_standard_errors"] == pytest.approx(
            abs(divisor["mean"]) / divisor["standard_error"], rel=1e-4
        )
        undefined = (divisor["why"] is None, area["mean"] is not None, found["value_of_all_candidates"]["faithfulness"])
        assert undefined == ((False, False, None) if measure == blind else (True, True, 1.0))


@pytest.mark.parametrize("blind", [0], indirect=True)
def test_the_picture_says_why_a_curve_is_missing(measured: Measured, blind: int, tmp_path: Path):
    both = [tables.faithfulness_table(measured, measure) for measure in range(len(MEASURES))]
    named = dict(zip(("faithfulness", "faithfulness_log_probability"), both, strict=True))
    curves_picture(named, tmp_path / "curves.svg")
    # One text in each of the two panels of the blind measure.
    assert (tmp_path / "curves.svg").read_text().count("standard errors") == 2
