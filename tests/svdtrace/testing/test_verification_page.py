"""docs/verification.md says what there is, and its example runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import settings

from svdtrace.testing import LAWS, decomposition_laws
from svdtrace.testing.strategies import made_head

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "verification.md").read_text("utf-8")


def test_the_page_lists_every_law() -> None:
    rows = [f"| `{each.name}` | {each.about} | {each.needs} |" for each in LAWS]
    assert "\n".join(["| law | says | takes |", "| --- | --- | --- |", *rows]) in PAGE


@pytest.mark.parametrize("each", LAWS, ids=lambda each: each.name)
def test_a_law_says_why(each) -> None:
    """Equation, bound, source and the bug that it catches stand beside every law."""
    text = " ".join(each.function.__doc__.split())
    if each.name == "products_add_up":
        assert "products_summed" in text
        return
    assert "Bound:" in text
    assert "Catches:" in text
    assert any(word in text for word in ("Source:", "vmap", "jit", "hook"))


def test_the_example_runs_and_can_fail() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict = {}
    # The same heads each time: what is drawn otherwise is the reader's to explore.
    settings.register_profile("drawn once", derandomize=True, database=None)
    settings.load_profile("drawn once")
    try:
        exec(code, names)
        names["test_mine"]()
    finally:
        settings.load_profile("default")
    A, B = made_head(8, 2)
    U, S, V = names["mine"](A, B)
    assert [each.law for each in decomposition_laws(A, B, U, S[::-1], V) if not each.holds] == [
        *("rebuilt", "ordered", "values_alone", "second_opinion"),
    ]
