"""The picture of scores: of every method, with and without other strengths beside the model's own."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from picture_faults import faults

from svdtrace.truth.figures import LOOKS, curves_picture
from svdtrace.truth.power_figure import power_picture
from svdtrace.truth.tables import POWER, SCORES


def scores(strengths: list[float | None]) -> pa.Table:
    rows = [
        {
            "method": method,
            "strength": strength,
            "coverage": coverage,
            "reached": float((strength or 0) < 1),
            "precision_most": 0.1 * place if (strength or 0) < 1 else None,
            "recall_most": 1 - 0.1 * place,
        }
        for strength in strengths
        for place, method in enumerate(LOOKS)
        for coverage in (0.5, 0.7, 0.999)
    ]
    return pa.Table.from_pylist(rows, schema=SCORES)


@pytest.mark.parametrize("strengths", [[0.3, 0.0, 1.0, 1.5], [0.3, 0.0], [0.3, 1.5], [None]])
def test_nothing_is_wrong_with_it(strengths: list[float | None], monkeypatch: pytest.MonkeyPatch):
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    curves_picture(scores(strengths), "curves.svg")
    (figure,) = figures
    found: dict[str, list[Any]] = faults(figure)
    assert not any(found.values()), found
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert titles == (["This model"] if strengths == [None] else ["Coverage 0.7", "Background 0.3"])
    said = {text.get_text() for ax in figure.axes for text in ax.texts}
    assert said == ({"roots seldom fire"} if strengths[-1] and strengths[-1] >= 1 else set())


def test_power_of_several_models_is_their_mean(monkeypatch: pytest.MonkeyPatch):
    """Catches a line that runs to and fro between models, and a null that says nothing of one taken for 0."""
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    own = {"claim": "vectors", "nulls": 99, "beats_slices": 1.0, "beats_bases": 0.5}
    rows = [
        own | {"strength": strength, "true": true, "surviving": surviving, "beats_prompts": beats}
        for true, surviving, beats in ((4, 4, None), (8, 2, 0.25))
        for strength in (0.5, 0.1)
    ]
    power_picture(pa.Table.from_pylist(rows, schema=POWER), "power.svg")
    (figure,) = figures
    lines = {line.get_label(): line for axes in figure.axes for line in axes.lines}
    for label, value in {"99 nulls": (1 + 2 / 8) / 2, "slices": 1, "bases": 0.5, "prompts": 0.25}.items():
        assert list(lines[label].get_xdata()) == pytest.approx([0.1, 0.5])
        assert list(lines[label].get_ydata()) == pytest.approx([value, value])
