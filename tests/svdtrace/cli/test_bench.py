"""The command says what was measured: alone as JSON, as tables, in a folder."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from svdtrace.bench import running
from svdtrace.bench.sizes import Sizes
from svdtrace.cli import main


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch):
    """Small sizes, and nothing in processes of its own."""
    small = {"prompts": 8, "tokens": 9, "matmul": 64, "triad": 2**12}
    monkeypatch.setattr(running, "Sizes", partial(Sizes, **small))
    inside = {"all heads' decomposition", "dense SVDs by LAPACK", "forward pass and trace", "the roof of each stage"}
    monkeypatch.setattr(running, "MEASUREMENTS", tuple(each for each in running.MEASUREMENTS if each[0] in inside))


@pytest.mark.whole
def test_one_object_alone(capsys: pytest.CaptureFixture[str], model_folder: Path, tmp_path: Path):
    out = tmp_path / "measured"
    assert main(["bench", "--model", str(model_folder), "--json", "--out", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found)[:2] == ["trace_ratio", "decomposition_ratio"]
    assert {"device", "cores", "stages"} < found.keys()
    assert json.loads((out / "bench.json").read_text()) == found
    assert json.loads((out / "manifest.json").read_text())["command"] == "bench"


def test_tables(capsys: pytest.CaptureFixture[str], model_folder: Path):
    assert main(["bench", "--model", str(model_folder)]) == 0
    shown = capsys.readouterr().out
    for name in ("trace_ratio", "cores", "stages, seconds", "targets", "≤ 1.3", "growth", "roofline"):
        assert name in shown
    # Which of the two bounds a model as small as this one is the machine's affair.
    assert "arithmetic" in shown or "memory" in shown


def test_a_folder_of_somebodys_is_refused_before_anything_is_measured(
    capsys: pytest.CaptureFixture[str], model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "note.txt").write_text("mine")
    monkeypatch.setattr(running, "MEASUREMENTS", (("never", lambda *_: pytest.fail("measured"), False),))
    assert main(["bench", "--model", str(model_folder), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
