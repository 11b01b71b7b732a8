"""`svdtrace reproduce`: what it prints, writes and returns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from undescribed_columns import undescribed

from svdtrace.cli import findings, main
from svdtrace.reproduction import published
from svdtrace.reproduction.published import read_published

FILES = {"graph.graphml", "manifest.json", "reproduction.parquet"}


@pytest.mark.whole
def test_a_model_of_another_shape(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    model_folder: Path,
    prompt_file: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(findings, "name_moving_heads", lambda trace: [])
    given = ["reproduce", "--model", str(model_folder), "--prompts", str(prompt_file), "--out", str(tmp_path / "out")]
    assert main(given) == 0
    told = capsys.readouterr().out
    assert "has not the shape of GPT-2 small" in told
    assert "Firings" in told
    assert "No head fires from end to IO" in told
    assert main([*given, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["applies"], content["compared"], content["outside"]) == (False, 0, 0)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert undescribed(tmp_path / "out") == []
    table = pq.read_table(tmp_path / "out" / "reproduction.parquet")
    assert table.to_pylist() == content["rows"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["command"], manifest["prompts"]["count"]) == ("reproduce", 3)


def test_a_row_outside_is_found_wanting(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    model_folder: Path,
    prompt_file: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    held = read_published()
    numbers = dict(held.numbers)
    numbers["settings"] = numbers["settings"] | {"roots": "1.0@end:IO"}
    numbers["firings_traced"] = {"counts": {"1.0": 10**6}}
    numbers["firings_threshold_only"] = {"ioi": {}}
    numbers["interventions_multi_edge"] = []
    other = replace(held, numbers=numbers, shape={"n_layers": 3, "d_model": 16}, tokens=None)
    monkeypatch.setattr(published, "read_published", lambda: other)
    given = ["reproduce", "--model", str(model_folder), "--prompts", str(prompt_file), "--out", str(tmp_path / "out")]
    assert main([*given, "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content["applies"]
    assert content["outside"] == sum(row["inside"] is False for row in content["rows"]) > 0
    assert main(given) == 1
    told = capsys.readouterr().out
    row = next(line for line in told.splitlines() if line.split()[:2] == ["1.0", "1,000,000"])
    assert "OUTSIDE" in row
    assert f"{content['outside']} of {content['compared']} numbers lie outside of their tolerance" in told


@pytest.mark.full
def test_the_bundled_model_runs_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["reproduce", "--out", str(tmp_path / "out"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["prompts"] == 64
    assert "@end:IO" in content["roots"]
    rows = {(row["topic"], row["name"]): row["measured"] for row in content["rows"]}
    root = content["roots"].split(",")[0]
    assert rows["prompts firing", root] >= 16
    assert rows["graph", "communication edges"] > 20
    assert any(topic == "global effect" for topic, _ in rows)
    assert (tmp_path / "out" / "effects.parquet").exists()
    assert undescribed(tmp_path / "out") == []
