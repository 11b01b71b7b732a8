"""A sweep with a full disk, a folder that cannot be written, prompts that are gone: one line, and it goes on after."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import svdtrace
from svdtrace.cli import main
from svdtrace.results import decompositions
from svdtrace.sweeping import parts


@pytest.fixture
def arguments(model_folder: Path, prompt_file: Path, tmp_path: Path) -> list[str]:
    """A sweep of three prompts in two parts, into `out`, from a file of its own."""
    source = shutil.copy(prompt_file, tmp_path / "prompts.jsonl")
    options = ["--prompts", str(source), "--threshold", "0.3", "--part-size", "2", "--quiet"]
    return ["sweep", "--model", str(model_folder), *options, "--out", str(tmp_path / "out")]


@pytest.fixture(scope="module")
def expected(model_folder: Path, prompt_file: Path, tmp_path_factory: pytest.TempPathFactory) -> svdtrace.Trace:
    """What an undisturbed sweep of the same prompts finds."""
    out = tmp_path_factory.mktemp("sweeps") / "undisturbed"
    options = ["--prompts", str(prompt_file), "--threshold", "0.3", "--part-size", "2", "--quiet"]
    assert main(["sweep", "--model", str(model_folder), *options, "--out", str(out)]) == 0
    return svdtrace.read(out)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a sweep that cannot be."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def assert_ends_well(arguments: list[str], out: Path, expected: svdtrace.Trace) -> None:
    """The same command again ends as if nothing had happened."""
    assert main(arguments) == 0
    found = svdtrace.read(out)
    for name in ("prompts", "firings", "edges"):
        assert getattr(found, name).equals(getattr(expected, name))
    assert json.loads((out / "manifest.json").read_text())["sweep"]["complete"]
    assert not [*out.glob("*.tmp"), *out.glob("*/*.tmp")]


# Whatever puts bytes on the disk.
WRITERS = (
    (pq, "write_table"),
    (pq.ParquetWriter, "write_table"),
    (Path, "write_text"),
    (Path, "replace"),
    (Path, "mkdir"),
    (parts, "_to_disk"),
    (decompositions, "save_file"),
)


def full_from(monkeypatch: pytest.MonkeyPatch, moment: int) -> Callable[[], int]:
    """Let the disk be full from the nth writing on."""
    passed = 0

    def limited(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal passed
            passed += 1
            if passed >= moment:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **options)

        return call

    for holder, name in WRITERS:
        monkeypatch.setattr(holder, name, limited(getattr(holder, name)))
    return lambda: passed


@pytest.mark.full
def test_a_disk_that_is_full_at_any_write(
    arguments: list[str],
    tmp_path: Path,
    expected: svdtrace.Trace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    moment, out = 0, tmp_path / "out"
    while True:
        moment += 1
        shutil.rmtree(out, ignore_errors=True)
        with monkeypatch.context() as patched:
            passed = full_from(patched, moment)
            if main(arguments) == 0:
                assert passed() < moment
                break
        error = capsys.readouterr().err
        assert error.startswith("error: "), moment
        assert error.count("\n") == 1, moment
        assert "No space left on device" in error, moment
        if parts.numbers(out):
            there, whole = svdtrace.read(out), (0, 2, 3)[len(parts.numbers(out))]
            for name in ("prompts", "firings", "edges"):
                wanted = getattr(expected, name)
                assert getattr(there, name).equals(wanted.filter(pc.less(wanted["prompt"], whole))), moment
        assert_ends_well(arguments, out, expected)
    # Two parts of three tables, each written, kept and renamed, and the manifests.
    assert moment > 18


@pytest.mark.whole
def test_a_disk_that_is_full_at_the_second_part(
    arguments: list[str],
    tmp_path: Path,
    expected: svdtrace.Trace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    real = pq.write_table

    def write_table(table: Any, where: Any, **options: Any) -> None:
        if "part-00001" in str(where):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(table, where, **options)

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", write_table)
        error = refused(arguments, capsys)
    assert "part-00001.parquet: not written (No space left on device)" in error
    assert "make room and give the same command again" in error
    out = tmp_path / "out"
    assert parts.numbers(out) == [0]
    assert svdtrace.read(out).prompts["prompt"].to_pylist() == [0, 1]
    assert_ends_well(arguments, out, expected)


def test_prompts_that_are_gone_when_it_goes_on(
    arguments: list[str], tmp_path: Path, expected: svdtrace.Trace, capsys: pytest.CaptureFixture[str]
):
    source, aside, out = tmp_path / "prompts.jsonl", tmp_path / "aside.jsonl", tmp_path / "out"
    assert main(arguments) == 0
    parts.path(out, "prompts", 1).unlink()
    source.rename(aside)
    assert "prompts.jsonl: no such file" in refused(arguments, capsys)
    assert parts.numbers(out) == [0]
    aside.rename(source)
    assert_ends_well(arguments, out, expected)


def test_prompts_that_vanish_midway(
    arguments: list[str],
    tmp_path: Path,
    expected: svdtrace.Trace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """A folder of prompts, of which the second file is gone when the first is done."""
    lines = (tmp_path / "prompts.jsonl").read_text().splitlines(keepends=True)
    folder, out = tmp_path / "prompts", tmp_path / "out"
    folder.mkdir()
    for name, its in (("a.jsonl", lines[:2]), ("b.jsonl", lines[2:])):
        (folder / name).write_text("".join(its))
    given = [str(folder) if each == str(tmp_path / "prompts.jsonl") else each for each in arguments]
    real = parts.write

    def write(*args: Any) -> None:
        real(*args)
        (folder / "b.jsonl").unlink(missing_ok=True)

    with monkeypatch.context() as patched:
        patched.setattr(parts, "write", write)
        error = refused(given, capsys)
    assert "b.jsonl: cannot be read (No such file or directory)" in error
    assert parts.numbers(out) == [0]
    (folder / "b.jsonl").write_text("".join(lines[2:]))
    assert_ends_well(given, out, expected)


def test_a_folder_that_cannot_be_written(
    arguments: list[str],
    tmp_path: Path,
    expected: svdtrace.Trace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The super-user may write anywhere, so a refusal stands in where permissions do not refuse."""
    out, real = tmp_path / "out", os.open

    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if out in Path(os.fsdecode(path)).parents and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, flags, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        error = refused(arguments, capsys)
    assert "out: cannot be written to (Permission denied)" in error
    assert_ends_well(arguments, out, expected)
