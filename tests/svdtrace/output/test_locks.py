"""Two runs, one folder: nobody's work is lost, and what a dead run left is told from a live one's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from svdtrace.errors import OutputError, SvdtraceWarning
from svdtrace.output import check_folder, locks, replaced_file, replaced_folder, write_manifest
from svdtrace.output.locks import held, is_held
from svdtrace.output.staging import BUSY, clear_dead, staging_in

OURS = {"version": "0", "command": "trace"}
ROOT = Path(__file__).resolve().parents[3]
WRITER = """
import sys
from svdtrace.output import replaced_folder, write_manifest
with replaced_folder("out") as staging:
    (staging / "of").write_text(sys.argv[1])
    print("begun", flush=True)
    sys.stdin.read()
    write_manifest(staging, {"version": "0", "command": "trace"})
"""


def put(folder: Path, who: str) -> None:
    with replaced_folder(folder) as staging:
        (staging / "of").write_text(who)
        write_manifest(staging, {**OURS})


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture(params=["locks", "no locks"])
def any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with locks, and one without."""
    if request.param == "no locks":
        monkeypatch.setattr(locks, "fcntl", None)


@pytest.mark.usefixtures("any_system")
def test_a_lock_is_held_once(tmp_path: Path):
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with held(lock):
        assert is_held(lock)
        with pytest.raises(BlockingIOError), held(lock, wait=0.1):
            pass
    assert not lock.exists()
    with held(lock, keep=True):
        pass
    assert lock.exists()
    assert not is_held(lock)


@pytest.mark.parametrize(("owner", "dead"), [("{host} 999999999", True), ("elsewhere 1", False), ("{host} 1", False)])
def test_without_locks_the_owner_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, dead: bool):
    monkeypatch.setattr(locks, "fcntl", None)
    (tmp_path / "lock").write_text(owner.format(host=locks.socket.gethostname()))
    assert is_held(tmp_path / "lock") is not dead


@pytest.mark.usefixtures("any_system")
@pytest.mark.parametrize("existed", [True, False])
def test_a_run_within_a_run(tmp_path: Path, existed: bool):
    out = tmp_path / "out"
    if existed:
        put(out, "earlier")
    with warnings.catch_warnings(record=True) as said, replaced_folder(out) as first:
        warnings.simplefilter("always")
        (first / "of").write_text("first")
        put(out, "second")
        assert (first / "of").read_text() == "first", "the other one leaves it alone"
        write_manifest(first, {**OURS})
    assert [each.category for each in said] == [SvdtraceWarning]
    assert str(said[0].message).endswith(f"wrote there meanwhile; its result is now in {out / 'another-run-1'}")
    assert (out / "of").read_text() == "first"
    assert (out / "another-run-1" / "of").read_text() == "second"
    assert names(out) == ["another-run-1", "manifest.json", "of"]
    assert names(tmp_path) == ["out"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put(out, "third")
    assert (out / "another-run-1" / "of").read_text() == "second", "no run removes what it did not make"


@pytest.mark.parametrize("existed", [True, False])
def test_two_processes(tmp_path: Path, existed: bool):
    if existed:
        put(tmp_path / "out", "earlier")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = {"cwd": tmp_path, "env": environment, "text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    given["stderr"] = subprocess.PIPE
    both = [subprocess.Popen([sys.executable, "-c", WRITER, who], **given) for who in ("one", "two")]
    for each in both:
        assert each.stdout.readline() == "begun\n"
    said = [each.communicate("")[1] for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert said[0] == ""
    assert "another run wrote there meanwhile; its result is now in" in said[1]
    assert (tmp_path / "out" / "of").read_text() == "two"
    assert (tmp_path / "out" / "another-run-1" / "of").read_text() == "one"
    assert names(tmp_path) == ["out"]


def test_what_a_killed_run_left_is_removed(tmp_path: Path):
    put(tmp_path / "out", "earlier")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    given = {"cwd": tmp_path, "env": environment, "text": True, "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WRITER, "dead"], **given) as run:
        run.stdout.readline()
        run.kill()
    assert len(names(tmp_path / "out")) == 4
    with replaced_file(tmp_path / "out" / "picture.svg") as staging:
        staging.write_text("")
    assert names(tmp_path / "out") == ["manifest.json", "of", "picture.svg"]


def test_a_file_written_into_a_folder_that_is_replaced(tmp_path: Path):
    put(tmp_path / "out", "earlier")
    with replaced_file(tmp_path / "out" / "picture.svg") as staging:
        put(tmp_path / "out", "other")
        staging.write_text("drawn")
    assert (tmp_path / "out" / "picture.svg").read_text() == "drawn"


def test_a_folder_where_a_sweep_is_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("svdtrace.output.writing.WAIT", 0.1)
    out = tmp_path / "out"
    put(out, "earlier")
    with held(out / BUSY), pytest.raises(OutputError, match="another run is writing there; wait for it"):
        check_folder(out)
    with pytest.raises(OutputError, match="the result is kept in"), replaced_folder(out) as late:
        (late / "of").write_text("late")
        write_manifest(late, {**OURS})
        sweep = held(out / BUSY)
        sweep.__enter__()
    assert (out / "of").read_text() == "earlier"
    assert (out / "out-unplaced-1" / "of").read_text() == "late"
    sweep.__exit__(None, None, None)


def test_work_without_a_lock_is_not_touched_where_a_sweep_may_live(tmp_path: Path):
    aside = tmp_path / ".svdtrace-manifest.json.tmp"
    aside.write_text(json.dumps(OURS))
    with staging_in(tmp_path):
        clear_dead(tmp_path)
    assert names(tmp_path) == [aside.name]
