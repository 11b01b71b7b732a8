"""Whatever stands in a model's folder: one line, and nothing run of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostile import checkpoint_cases, weight_cases
from hostile.refusals import Case, check, tiers

CASES = [*weight_cases.CASES, *checkpoint_cases.CASES]


@pytest.mark.parametrize("case", tiers(CASES))
def test_refused(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    check(case, tmp_path, capsys)
