"""`--model` and `--revision`: what a stranger's checkpoint brings, as it is seen from the command line."""

from __future__ import annotations

import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints.folders import tensors, write_folder

from gpt2jax import hub
from svdtrace.cli import main
from svdtrace.cli.options import ModelChoice
from svdtrace.cli.parser import COMMANDS

from .conftest import CONFIG

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCORE = {"score.weight": np.zeros((2, 16), np.float32)}
CLASSIFIER = CONFIG | {"architectures": ["GPT2ForSequenceClassification"]}


def ran(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output, standard error."""
    capsys.readouterr()
    status = main([str(each) for each in arguments])
    return status, *capsys.readouterr()


def test_revision_stands_beside_every_model():
    assert {field.name for field in fields(ModelChoice)} == {"model", "revision"}
    for name in COMMANDS:
        options = {field.name for field in fields(import_module(f"svdtrace.cli.{name.replace('-', '_')}").Options)}
        assert "model" not in options or "revision" in options, name


@pytest.mark.parametrize("asked", [["owner/tiny", "--revision", "step-100"], ["owner/tiny@step-100"]])
def test_the_manifest_names_the_commit(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    prompt_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: list[str],
):
    snapshot = write_folder(tmp_path / COMMIT, tensors(CONFIG), CONFIG)
    monkeypatch.setattr(hub, "_snapshot", lambda *given: snapshot if given == ("owner/tiny", "step-100") else None)
    monkeypatch.chdir(tmp_path)
    for command in (["trace", "--prompts", prompt_file], ["decompose"]):
        status, _, err = ran(capsys, *command, "--model", *asked, "--out", "out", "--quiet")
        assert (status, err) == (0, "")
        model = json.loads((tmp_path / "out" / "manifest.json").read_text())["model"]
        assert (model["hub_id"], model["revision"], model["commit"]) == ("owner/tiny", "step-100", COMMIT)
    assert ran(capsys, "tokens", "--model", *asked, "--prompts", prompt_file)[0] == 0


def test_a_folder_has_neither_revision_nor_commit(capsys: pytest.CaptureFixture[str], traced: Path, model_folder: Path):
    model = json.loads((traced / "manifest.json").read_text())["model"]
    assert model["hub_id"] is model["revision"] is model["commit"] is None
    status, _, err = ran(capsys, "tokens", "--model", model_folder, "--revision", "v1", "--text", "1")
    assert (status, err.count("\n")) == (2, 1)
    assert "is a folder, which has no revision 'v1'" in err


def test_what_is_left_out_is_said_on_standard_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, prompt_file: Path
):
    folder = write_folder(tmp_path / "model", tensors(CONFIG, prefix="module.transformer.") | SCORE, CLASSIFIER)
    given = ["trace", "--model", folder, "--prompts", prompt_file, "--out", tmp_path / "out"]
    status, out, err = ran(capsys, *given, "--json")
    assert status == 0
    assert json.loads(out)["command"] == "trace"
    assert err.splitlines() == [
        f'note: {folder}: the tensors\' names bear the prefix "module.", which is stripped',
        f"note: {folder}: score.weight of another head: left out",
    ]
    assert ran(capsys, *given, "--quiet") == (0, "", "")


def test_a_body_alone_is_traced_without_logits(capsys: pytest.CaptureFixture[str], tmp_path: Path, prompt_file: Path):
    untied = CLASSIFIER | {"tie_word_embeddings": False}
    folder = write_folder(tmp_path / "model", tensors(CONFIG) | SCORE, untied)
    out = tmp_path / "out"
    given = ["trace", "--model", folder, "--prompts", prompt_file, "--out", out, "--quiet"]
    assert ran(capsys, *given) == (0, "", "")
    assert pq.read_table(out / "prompts.parquet")["logit_difference"].null_count == 3
    status, _, err = ran(capsys, *given, "--roots", "logit")
    assert status == 2
    assert err.startswith("error: logits need an unembedding, but this model holds none;")


def test_an_unknown_activation_stops_only_what_runs_the_mlp(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, prompt_file: Path
):
    folder = write_folder(tmp_path / "model", tensors(CONFIG), CONFIG | {"activation_function": "some_kernel"})
    given = ["--model", folder, "--out", tmp_path / "out", "--quiet"]
    assert ran(capsys, "decompose", *given) == (0, "", "")
    status, _, err = ran(capsys, "trace", *given, "--prompts", prompt_file)
    assert status == 2
    assert err.startswith('error: activation_function is "some_kernel", which is not known;')


def test_a_decomposition_that_overflows_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    weights = tensors(CONFIG)
    weights["transformer.h.1.attn.c_attn.weight"] *= np.float32(1e25)
    folder = write_folder(tmp_path / "model", weights, CONFIG)
    status, _, err = ran(capsys, "decompose", "--model", folder, "--out", tmp_path / "out")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: 2 heads, 1.0 first: the query-key matrix is not finite;")
    assert not (tmp_path / "out").exists()
