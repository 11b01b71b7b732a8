"""What somebody wrote is the path that was meant, in every option, variable and function."""

from __future__ import annotations

from pathlib import Path

import pytest

from svdtrace.errors import PathError
from svdtrace.results.caches import cache_folder
from svdtrace.surroundings.paths import path_of


def test_a_tilde_is_the_home_folder(home: Path):
    assert path_of("~/x") == home / "x"
    assert path_of(Path("~")) == home
    assert path_of("~root/x").is_absolute()
    assert path_of("./~") == Path("~")


@pytest.mark.parametrize(
    ("written", "said"), [("", "empty name"), ("~no-such-user/x", "no home folder ~no-such-user"), ("a\0b", "null")]
)
def test_what_names_no_path(written: str, said: str):
    with pytest.raises(PathError, match=said):
        path_of(written)


def test_the_cache_is_in_the_home_folder_or_absolute(home: Path, monkeypatch: pytest.MonkeyPatch):
    for written, meant in (("~/c", home / "c"), ("c", Path.cwd() / "c"), ("", None), ("~no-such-user", None)):
        monkeypatch.setenv("SVDTRACE_CACHE", written)
        assert cache_folder() == meant
    monkeypatch.delenv("SVDTRACE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_folder() == home / "xdg" / "svdtrace"
