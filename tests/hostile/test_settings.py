"""Whatever is asked for: one line that names the option, its value and the way out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hostile.refusals import Case, check, tiers
from hostile.setting_cases import CASES


@pytest.mark.parametrize("case", tiers(CASES))
def test_refused(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    check(case, tmp_path, capsys)
