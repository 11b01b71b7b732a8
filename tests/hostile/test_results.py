"""Results of strangers, places of others, questions that reach too far: one line, and everything stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostile.refusals import Case, check, tiers
from hostile.result_cases import CASES, HELD


@pytest.mark.parametrize("case", tiers(CASES))
def test_refused(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with HELD:
        check(case, tmp_path, capsys)
