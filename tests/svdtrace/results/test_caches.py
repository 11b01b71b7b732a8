"""A cache on disk stays within its bound: what was used least recently goes, the newest stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from svdtrace.errors import SettingError
from svdtrace.results.caches import bound, keep_within


def fill(folder: Path, *ages: float, size: int = 100, ending: str = "") -> list[Path]:
    """Files of so many bytes, last used so many seconds ago."""
    made = []
    for age in ages:
        path = folder / f"below-{age:g}" / f"file{ending}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - age,) * 2)
        made.append(path)
    return made


@pytest.mark.parametrize(("room", "kept"), [(1000, 3), (300, 3), (299, 2), (200, 2), (100, 1), (99, 1), (0, 1)])
def test_least_recently_used_first(tmp_path: Path, room: float, kept: int):
    files = fill(tmp_path, 30, 10, 20)
    keep_within(tmp_path, room)
    newest_first = [files[1], files[2], files[0]]
    assert [each.exists() for each in newest_first] == [place < kept for place in range(3)]


def test_what_is_being_written_is_left_alone(tmp_path: Path):
    fresh, old = fill(tmp_path, 10, 7200, ending=".tmp")
    fill(tmp_path, 5)
    keep_within(tmp_path, 0)
    assert fresh.exists()
    assert not old.exists()


@pytest.mark.parametrize(("said", "room"), [("", 4e9), ("0", 0.0), ("0.5", 5e8), ("inf", float("inf")), (" 2 ", 2e9)])
def test_bounds(monkeypatch: pytest.MonkeyPatch, said: str, room: float):
    monkeypatch.setenv("SVDTRACE_CACHE_GB", said)
    assert bound() == room


@pytest.mark.parametrize("said", ["many", "-1", "nan", "4GB"])
def test_what_is_no_bound(monkeypatch: pytest.MonkeyPatch, said: str):
    monkeypatch.setenv("SVDTRACE_CACHE_GB", said)
    with pytest.raises(SettingError, match=f"SVDTRACE_CACHE_GB is {said}; give a number of gigabytes, 0 or more"):
        bound()
