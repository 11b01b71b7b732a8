"""Commands in a stranger's surroundings: homes in paths, names in brackets, no standard input, one layer."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from checkpoints.folders import tensors, write_folder

import svdtrace
from svdtrace.cli import main

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")


def test_commands_read_and_write_in_the_home_folder(home: Path, model_folder: Path, prompt_file: Path):
    (home / "p.jsonl").write_bytes(prompt_file.read_bytes())
    (home / "settings.json").write_text(json.dumps({"threshold": 0.3}))
    given = ["--model", str(model_folder), "--prompts=~/p.jsonl"]
    assert main(["tokens", *given]) == 0
    assert main(["trace", *given, "--config=~/settings.json", "--out=~/traced", "--quiet"]) == 0
    assert svdtrace.read("~/traced").manifest["config"]["threshold"] == 0.3
    assert main(["graph", "~/traced", "--out=~/graph.json", "--quiet"]) == 0
    assert main(["query", "~/traced", "select 1", "--quiet"]) == 0
    assert {"traced", "graph.json"} <= {each.name for each in home.iterdir()}
    assert not list(Path.cwd().iterdir()), "nothing is named ~"


def test_a_trace_is_saved_in_the_home_folder(home: Path, traced: Path):
    svdtrace.read(traced).save("~/x")
    assert svdtrace.read("~/x").edges.equals(svdtrace.read(traced).edges)
    assert not list(Path.cwd().iterdir())


def test_without_standard_input_there_are_no_prompts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], model_folder: Path
):
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["tokens", "--model", str(model_folder), "--prompts", "-"]) == 2
    assert capsys.readouterr().err.startswith("error: standard input: is closed; pipe prompts into it")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"tokens": [1, 2]}\n'))
    assert main(["tokens", "--model", str(model_folder), "--prompts", "-", "--json"]) == 0


@pytest.mark.parametrize("name", ["run[gpt2]", "x[/a]", ":smile:", "a" * 150])
def test_names_are_shown_as_they_are(
    tmp_path: Path, traced: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
):
    monkeypatch.chdir(tmp_path)
    assert main(["graph", str(traced), "--out", name]) == 0
    assert f"written to {name}/graph.json, {name}/graph.graphml\n" in capsys.readouterr().out
    assert main(["graph", name]) == 2
    assert capsys.readouterr().err.startswith(f"error: {name}/manifest.json: lacks ")


@pytest.mark.full
def test_the_whole_command_is_counted(
    tmp_path: Path, model_folder: Path, prompt_file: Path, capsys: pytest.CaptureFixture[str]
):
    given = ["--model", str(model_folder), "--prompts", str(prompt_file), "--out", str(tmp_path / "out"), "--json"]
    assert main(["trace", *given, "--nulls", "2", "--blocks", "0.2", "--threshold", "0.3"]) == 0
    seconds = json.loads(capsys.readouterr().out)["seconds"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["seconds"] == seconds
    assert {"nulls", "attribute", "other"} <= seconds.keys()
    assert manifest["chance"]["seconds"] == seconds["nulls"]
    assert manifest["chance"]["blocks"] == 0.2
    stages = sum(each for name, each in seconds.items() if name != "total")
    assert stages == pytest.approx(seconds["total"], abs=0.01)
    assert svdtrace.read(tmp_path / "out").manifest == manifest


@pytest.fixture(scope="module")
def one_layer(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one layer."""
    config = {**json.loads((model_folder / "config.json").read_text()), "n_layer": 1}
    return write_folder(tmp_path_factory.mktemp("models") / "one-layer", tensors(config), config)


@pytest.mark.whole
def test_a_model_of_one_layer(one_layer: Path, prompt_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["--model", str(one_layer), "--prompts", str(prompt_file), "--threshold", "0.3"]
    for command in ("trace", "sweep"):
        out = tmp_path / command
        assert main([command, *given, "--out", str(out), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["why_empty"].startswith("The model has one layer, and layer 0 is never traced, since")
        assert "its heads fired" in told["why_empty"]
        assert main(["graph", str(out), "--out", str(tmp_path / f"{command}.json")]) == 0
        assert told["why_empty"][:40] in capsys.readouterr().out
    assert told["why_empty"] in (tmp_path / "trace" / "report.html").read_text()
    assert main(["trace", *given, "--roots", "0.0@*:*", "--out", str(tmp_path / "no")]) == 2
    assert "and the model has no other layer" in capsys.readouterr().err
