"""`svdtrace circuit`: its files, its tables, what it refuses."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints.folders import tensors, write_folder

import svdtrace
from svdtrace.cli import main
from svdtrace.faithfulness import tables
from svdtrace.faithfulness.result import Circuit
from tests.svdtrace.cli.conftest import CONFIG

SMALL = ("--points", "3", "--seeds", "2", "--patched", "5")


@pytest.fixture(scope="module")
def measured(traced: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("circuits") / "out"
    said = io.StringIO()
    with redirect_stdout(said):
        assert main(["circuit", str(traced), "--model", str(model_folder), "--out", str(out), "--json", *SMALL]) == 0
    found, written = json.loads(said.getvalue()), json.loads((out / "manifest.json").read_text())
    assert found["out"] == str(out)
    # The manifest names its folder's files besides.
    assert [found[name] for name in written if name != "files"] == [
        written[name] for name in written if name != "files"
    ]
    return out


@pytest.mark.whole
def test_the_folder_is_whole(measured: Path):
    assert sorted(path.name for path in measured.iterdir()) == [
        *("agreement.parquet", "agreement.png", "agreement.svg", "agreement_log_probability.parquet", "curves.png"),
        *("curves.svg", "faithfulness.parquet", "faithfulness_log_probability.parquet", "manifest.json"),
        "output_heads.parquet",
    ]
    for name in {each.name for each in fields(Circuit)} - {"manifest"}:
        assert pq.read_schema(measured / f"{name}.parquet").equals(getattr(tables, name.upper()), check_metadata=True)


@pytest.mark.whole
def test_the_tables_agree_with_the_manifest_and_the_trace(measured: Path, traced: Path):
    manifest, trace = json.loads((measured / "manifest.json").read_text()), svdtrace.read(traced)
    runs = manifest["logit_difference"]
    assert runs["clean"]["mean"] == pytest.approx(np.mean(trace.prompts["logit_difference"].to_numpy()), abs=1e-4)
    # The graph tells apart where readers fire, which the edges of a circuit do not.
    assert manifest["counts"]["edges"] <= trace.graph().number_of_edges()
    of_answer = manifest["log_probability"]["runs"]
    for name, ends, after in (("logit_difference", runs, ""), ("log_probability", of_answer, "_log_probability")):
        rows = pq.read_table(measured / f"faithfulness{after}.parquet").to_pylist()
        divisor = (manifest["log_probability"] if after else manifest)["divisor"]
        assert divisor["mean"] == pytest.approx(ends["clean"]["mean"] - ends["nothing"]["mean"], abs=1e-5)
        assert len(rows) == (1 + 1 + 2) * 3 * 2
        assert {row["edges"] for row in rows} >= {1, manifest["counts"]["edges"]}
        for row in rows:
            assert row["why"] == divisor["why"]
            if row["why"] is None:
                share = (row[name] - ends["nothing"]["mean"]) / divisor["mean"]
                assert row["value"] == pytest.approx(share, rel=1e-3, abs=1e-3)
            else:
                assert row["value"] is None
            assert row["low"] <= row[name] <= row["high"]
            assert (row["seed"] is None) == (row["order"] != "random")
    edges = pq.read_table(measured / "agreement.parquet").to_pylist()
    assert len(edges) == 5
    heaviest = max(trace.graph().edges(data=True), key=lambda edge: edge[2]["total"])
    assert edges[0]["edge"].split(":")[0] == heaviest[0].partition("@")[0]
    assert pq.read_table(measured / "output_heads.parquet").num_rows == CONFIG["n_layer"] * CONFIG["n_head"]


@pytest.mark.whole
def test_it_tells_what_it_found(
    capsys: pytest.CaptureFixture[str], traced: Path, model_folder: Path, tmp_path: Path, measured: Path
):
    given = ["circuit", str(traced), "--model", str(model_folder), "--out", str(tmp_path / "out"), *SMALL]
    assert main(given) == 0
    told = capsys.readouterr().out
    for words in ("writers: heads", "clean run", "traced less random", "Rank correlations over 5 edges", "curves.svg"):
        assert words in told
    said, before = (json.loads((out / "manifest.json").read_text()) for out in (tmp_path / "out", measured))
    assert before["divisor"]["why"] in told
    assert (said["areas"], said["log_probability"]) == (before["areas"], before["log_probability"])


def test_another_model_is_refused(
    capsys: pytest.CaptureFixture[str], traced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    other = write_folder(tmp_path / "other", {**tensors(CONFIG)}, {**CONFIG, "layer_norm_epsilon": 1e-3})
    assert main(["circuit", str(traced), "--model", str(other), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the trace is of another model")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"tokens": [1, 2, 3, 4]}], "no prompt of the trace has an answer and a distractor"),
        ([{"tokens": [1], "answer": 1, "distractor": 2}], "the trace holds no edge"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    capsys: pytest.CaptureFixture[str], model_folder: Path, tmp_path: Path, rows: list[dict], says: str
):
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--model", str(model_folder), "--quiet"]
    trace = str(tmp_path / "trace")
    assert main(["trace", "--prompts", str(tmp_path / "prompts.jsonl"), "--out", trace, *asked]) == 0
    capsys.readouterr()
    assert main(["circuit", trace, "--out", str(tmp_path / "out"), *asked]) == 2
    assert says in capsys.readouterr().err


def test_the_trace_is_not_written_over(capsys: pytest.CaptureFixture[str], traced: Path, model_folder: Path):
    assert main(["circuit", str(traced), "--model", str(model_folder), "--out", str(traced)]) == 2
    assert "holds the trace that is read" in capsys.readouterr().err
