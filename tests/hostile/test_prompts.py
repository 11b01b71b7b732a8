"""Whatever is given as prompts: one line that names file and line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hostile.prompt_cases import CASES
from hostile.refusals import Case, check, tiers


@pytest.mark.parametrize("case", tiers(CASES))
def test_refused(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", sys.stdin)
    check(case, tmp_path, capsys)
