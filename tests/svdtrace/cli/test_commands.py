"""Every command does what it says, and prints what a program or a person can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import tokenizers
from safetensors import safe_open
from safetensors.numpy import load_file
from tokenizers import models, pre_tokenizers

import svdtrace
from svdtrace.cli import main
from svdtrace.cli.parser import COMMANDS, parse
from svdtrace.config import TraceConfig
from svdtrace.tracing.rounding import sentence

FILES = [
    "close_ups.parquet",
    "edges.parquet",
    "firings.parquet",
    "graph.graphml",
    "graph.json",
    "likeliest.parquet",
    "manifest.json",
    "prompts.parquet",
    "report.html",
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints; standard error stays empty, as it is no terminal here."""
    capsys.readouterr()
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_trace_writes_its_files_and_closes_with_a_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, prompt_file: Path
):
    given = ["trace", "--model", str(model_folder), "--prompts", str(prompt_file), "--threshold", "0.3"]
    out = tmp_path / "out"
    content = json.loads(said(capsys, *given, "--out", str(out), "--json"))
    assert sorted(path.name for path in out.iterdir()) == FILES
    trace = svdtrace.read(out)
    assert content["firings"] == trace.firings.num_rows > 0
    assert content["edges"] == trace.edges.num_rows > 0
    assert content["mean_slice"] == pytest.approx(np.mean(trace.firings["size"].to_numpy()), abs=1e-3)
    assert sum(head["firings"] for head in content["firings_per_head"].values()) == content["firings"]
    totals = [edge["total"] for edge in content["strongest_edges"]]
    assert totals == sorted(totals, reverse=True)
    table = said(capsys, *given, "--out", str(out))
    for words in ("Strongest edges", "Firings per head", "mean |S|", f"{content['firings']} firings", "report.html"):
        assert words in table
    assert said(capsys, *given, "--out", str(out), "--quiet") == ""


@pytest.mark.whole
def test_bfloat16_says_what_it_changes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, prompt_file: Path
):
    given = ["trace", "--model", str(model_folder), "--prompts", str(prompt_file), "--threshold", "0.3"]
    given += ["--dtype", "bfloat16", "--out", str(tmp_path / "out")]
    found = json.loads(said(capsys, *given, "--json"))["rounding"]
    assert found == json.loads((tmp_path / "out" / "manifest.json").read_text())["rounding"]
    assert found["firings"]["kept"] > 0
    assert sentence(found, 3) in " ".join(said(capsys, *given).split())
    assert 'id="rounding"' in (tmp_path / "out" / "report.html").read_text()


def test_no_firings_are_no_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, prompt_file: Path
):
    given = ["trace", "--model", str(model_folder), "--prompts", str(prompt_file), "--out", str(tmp_path / "out")]
    content = json.loads(said(capsys, *given, "--score-min", "1e6", "--json"))
    assert (content["firings"], content["edges"], content["mean_slice"]) == (0, 0, None)
    assert "no slices" in said(capsys, *given, "--score-min", "1e6")


def test_options_override_the_file_of_settings(tmp_path: Path, traced: Path):
    file = tmp_path / "config.json"
    file.write_text('{"threshold": 0.25, "method": "paper", "skip_first": false}')
    command = parse(["trace", "--config", str(file), "--threshold", "0.75", "--skip-first"])
    assert command.settings == TraceConfig(threshold=0.75, method="paper")
    assert parse(["trace", f"--config={file}"]).settings == TraceConfig(
        threshold=0.25, method="paper", skip_first=False
    )
    assert parse(["trace", "--config", str(traced / "manifest.json")]).settings.threshold == 0.3
    file.write_text('{"processing": "raw"}')
    assert parse(["decompose", "--config", str(file)]).processing == "raw"
    assert parse(["decompose", "--config", str(file), "--processing", "folded"]).processing == "folded"


def test_every_setting_is_an_option_of_trace():
    values = {
        "threshold": 0.25,
        "tau": 0.5,
        "coverage": 0.5,
        "method": "relative",
        "select": "until",
        "keys": "own",
        "writers": "heads",
        "roots": "probability",
        "targets": "top-k 3",
        "sides": "src",
        "score_min": 1.5,
        "processing": "raw",
        "batch_size": 7,
        "dtype": "float64",
    }
    given = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert parse(["trace", *given, "--no-skip-first"]).settings.to_dict() == {**values, "skip_first": False}
    relative = parse(["trace", "--method", "relative", "--threshold", "dynamic"]).settings
    assert (relative.threshold, relative.writers) == ("dynamic", "all")
    assert parse(["trace"]).settings.writers == "heads"


def test_tokens_show_positions_and_roles(capsys: pytest.CaptureFixture[str], model_folder: Path, prompt_file: Path):
    given = ["tokens", "--model", str(model_folder), "--prompts", str(prompt_file)]
    content = json.loads(said(capsys, *given, "--bos", "--json"))
    assert [prompt["id"] for prompt in content["prompts"]] == ["p0", "p1", "p2"]
    assert content["prompts"][0]["tokens"][:3] == [22, 2, 3]
    assert content["prompts"][0]["roles"] == {"IO": 3, "end": 8}
    row = next(line for line in said(capsys, *given).splitlines() if "IO" in line)
    assert row.split() == ["2", "4", '"4"', "IO"]


def test_tokens_need_no_weights(capsys: pytest.CaptureFixture[str], shared: Path):
    text = "Mary ran.\nJohn [b]too[/b]"
    out = said(capsys, "tokens", "--model", str(shared / "gpt2"), "--text", text, "--text", "again")
    assert '"\\n"' in out
    assert '"]"' in out
    assert "prompt 1" in out


def test_tokens_say_which_words_a_model_cannot_tell_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    library = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "Mary": 1, "ran": 2}, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.save(str(tmp_path / "tokenizer.json"))
    sizes = {"vocab_size": 3, "n_embd": 4, "n_head": 1, "n_layer": 1, "n_positions": 16}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", **sizes}))
    assert main(["tokens", "--model", str(tmp_path), "--text", "Mary ran far, far", "--text", "Mary"]) == 0
    note = 'note: prompt 0: "far,", "far" have no tokens of their own: they become the token of all unknown words\n'
    assert capsys.readouterr().err == note


def test_a_decomposition_is_that_of_the_model_traced(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, model_folder: Path, traced: Path
):
    out = tmp_path / "heads"
    content = json.loads(said(capsys, "decompose", "--model", str(model_folder), "--out", str(out), "--json"))
    parts = load_file(out / "decomposition.safetensors")
    assert {name: part.shape for name, part in parts.items()} == {
        "U": (3, 2, 17, 8),
        "S": (3, 2, 8),
        "V": (3, 2, 17, 8),
    }
    with safe_open(out / "decomposition.safetensors", framework="numpy") as file:
        assert file.metadata()["fingerprint"] == svdtrace.read(traced).manifest["model"]["fingerprint"]
    assert content["layers"][1]["largest"] == pytest.approx(parts["S"][1].max(), abs=1e-3)
    assert 1 <= content["layers"][1]["effective_rank"] <= 8
    assert "largest σ" in said(capsys, "decompose", "--model", str(model_folder), "--out", str(out))


def test_graphs_as_files_and_as_a_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: Path
):
    monkeypatch.chdir(tmp_path)
    content = json.loads(said(capsys, "graph", str(traced), "--json"))
    assert content["files"] == ["graph/graph.json", "graph/graph.graphml"]
    assert Path("graph/graph.json").read_bytes() == (traced / "graph.json").read_bytes()
    assert (content["nodes"], content["edges"]) == (len(nx.read_graphml("graph/graph.graphml")), content["edges"])
    said(capsys, "graph", str(traced), "--paper", "--out", "a.graphml", "--out", "b.json")
    paper = nx.read_graphml("a.graphml")
    assert all({"weight", "count"} <= attributes.keys() for _, _, attributes in paper.edges(data=True))
    assert Path("b.json").exists()


def test_a_report_as_file_and_as_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: Path
):
    monkeypatch.chdir(tmp_path)
    assert "report/report.html" in said(capsys, "report", str(traced))
    said(capsys, "report", str(traced), "--out", "page.html")
    page = (traced / "report.html").read_text()
    assert Path("page.html").read_text() == Path("report/report.html").read_text() == page


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_teaches(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    out = said(capsys, *arguments, "--help")
    assert "svdtrace" in out
    if arguments:
        assert f"\n  svdtrace {arguments[0]} " in out, "an example"
    else:
        assert all(name in out for name in COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]):
    assert said(capsys, "--version").startswith("svdtrace ")


def test_a_reader_that_leaves_is_no_error(prompt_file: Path, model_folder: Path):
    code = "import sys; from svdtrace.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "tokens", "--model", str(model_folder), "--prompts", str(prompt_file)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
