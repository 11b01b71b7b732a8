"""Results are written whole or not at all, and never over what is not ours."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from svdtrace.errors import OutputError
from svdtrace.output.writing import check_folder, names_file, replaced_file, replaced_folder, write_manifest

OURS = {"version": "0", "command": "trace"}


def put(folder: Path, name: str = "a.txt") -> None:
    """A small result, into a folder that `replaced_folder` gives."""
    with replaced_folder(folder) as staging:
        assert not list(staging.iterdir())
        (staging / name).write_text("whole")
        (staging / "sub").mkdir()
        write_manifest(staging, {**OURS})


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_new_folder_appears_with_its_parents(tmp_path: Path):
    put(tmp_path / "deep" / "out")
    assert names(tmp_path / "deep") == ["out"]
    assert names(tmp_path / "deep" / "out") == ["a.txt", "manifest.json", "sub"]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "deep" / "out").stat().st_mode) == 0o777 & ~umask


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    put(Path())
    assert names(tmp_path) == names(Path()) == ["a.txt", "manifest.json", "sub"]


def test_an_earlier_result_is_replaced_as_a_whole(tmp_path: Path):
    put(tmp_path / "out", "old.txt")
    put(tmp_path / "out", "new.txt")
    assert names(tmp_path / "out") == ["manifest.json", "new.txt", "sub"]


def test_what_others_put_beside_an_earlier_result_stays(tmp_path: Path):
    put(tmp_path / "out", "old.txt")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "more").mkdir()
    for _ in range(2):
        put(tmp_path / "out", "new.txt")
        assert names(tmp_path / "out") == ["manifest.json", "more", "new.txt", "notes.txt", "sub"]
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["files"] == ["manifest.json", "new.txt", "sub"]


@pytest.mark.parametrize(("name", "is_file"), [("a.json", True), ("a", False), ("run.v2", False)])
def test_a_file_or_a_folder(tmp_path: Path, name: str, is_file: bool):
    assert names_file(tmp_path / name, (".json",), tmp_path / "source") == is_file


def test_a_file_of_another_kind(tmp_path: Path):
    with pytest.raises(OutputError, match=r"g\.txt: a file that ends in \.txt cannot be written; end it in \.json"):
        names_file(tmp_path / "g.txt", (".json",), tmp_path / "source")


def test_what_an_interrupted_run_left_is_no_hindrance(tmp_path: Path):
    (tmp_path / "out" / ".svdtrace-x").mkdir(parents=True)
    put(tmp_path / "out")
    assert names(tmp_path / "out") == ["a.txt", "manifest.json", "sub"]


@pytest.mark.parametrize("stuck", ["old.txt", "new.txt", "manifest.json"])
def test_a_result_that_cannot_be_moved_leaves_the_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str
):
    put(tmp_path / "out", "old.txt")
    rename, asked = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        if self.name == stuck and not asked:
            asked.append(self)
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with pytest.raises(OutputError, match="Input/output error"), monkeypatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        put(tmp_path / "out", "new.txt")
    assert asked
    assert names(tmp_path / "out") == ["manifest.json", "old.txt", "out-unplaced-1", "sub"]
    assert names(tmp_path / "out" / "out-unplaced-1") == ["manifest.json", "new.txt", "sub"], "an hour's work is kept"


@pytest.mark.parametrize("earlier", [False, True])
def test_nothing_changes_when_writing_fails(tmp_path: Path, earlier: bool):
    if earlier:
        put(tmp_path / "out", "old.txt")
    before = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))]
    with pytest.raises(ZeroDivisionError), replaced_folder(tmp_path / "out") as staging:
        (staging / "half.txt").write_text("ha")
        raise ZeroDivisionError
    assert [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*"))] == before


@pytest.mark.parametrize("manifest", [None, "{}", "[", '{"version": "1"}', '["version", "command"]'])
def test_a_folder_of_others_is_left_alone(tmp_path: Path, manifest: str | None):
    (tmp_path / "thesis.tex").write_text("precious")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(OutputError, match="holds files that are no result of svdtrace"), replaced_folder(tmp_path):
        pass
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        check_folder(tmp_path / "out")
    with pytest.raises(OutputError, match=r"cannot be written to \(Not a directory\)"):
        check_folder(tmp_path / "out" / "below")


def test_a_folder_that_cannot_be_written_is_refused_before_the_work():
    # Not even root creates files there.
    with pytest.raises(OutputError, match="/proc/out: cannot be written to"):
        check_folder("/proc/out")


def test_a_full_disk_is_told_in_one_line(tmp_path: Path):
    with pytest.raises(OutputError, match="not written") as caught, replaced_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert str(caught.value) == (
        f"{tmp_path}/out: not written (No space left on device); make room or name another folder with --out"
    )
    assert names(tmp_path) == []


def test_a_file_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "deep" / "graph.json"
    for content in ("one", "two"):
        with replaced_file(path) as staging:
            assert staging.suffix == path.suffix
            staging.write_text(content)
    assert path.read_text() == "two"
    with pytest.raises(ZeroDivisionError), replaced_file(path) as staging:
        staging.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "two"
    assert names(path.parent) == ["graph.json"]


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path: Path):
    with pytest.raises(OutputError, match="is a folder; name a file"), replaced_file(tmp_path):
        pass
