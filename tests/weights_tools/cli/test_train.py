"""The command `weights-tools train`: what it writes, prints and refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import gpt2jax
import svdtrace
from svdtrace.truth.families import FAMILIES
from svdtrace.truth.folder import read_truth
from svdtrace.truth.planting import plant
from weights_tools.cli import main
from weights_tools.training import running
from weights_tools.training.recipe import Recipe

TINY = "--steps 2 --rows 2 --n-layers 1 --n-heads 2 --d-model 8 --n-ctx 80 --warm-up 1".split()


@pytest.mark.full
def test_train_writes_a_model_with_its_card(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "_EVALUATED", 16)
    monkeypatch.setattr(running, "_QUICK", 16)
    out = tmp_path / "a model"
    assert main(["train", "--out", str(out), "--seed", "3", *TINY]) == 0
    assert {each.name for each in out.iterdir()} == {"model.safetensors", "config.json", "tokenizer.json", "README.md"}
    model = gpt2jax.load(out)
    assert model.tokenizer.encode("Then, Mary") == [model.tokenizer.token_id(each) for each in ("Then", ",", " Mary")]
    config = json.loads((out / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    assert config["n_positions"] == 80
    assert model.params.W_U is None
    card = (out / "README.md").read_text()
    assert "weights-tools train --out DIR --seed 3 --steps 2 --rows 2" in card
    said = capsys.readouterr()
    assert "step     2" in said.out
    assert "held_out" in said.out
    assert said.err == ""


@pytest.mark.full
def test_an_interrupted_training_is_kept_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "_EVALUATED", 16)
    monkeypatch.setattr(running, "_QUICK", 16)
    out, other = tmp_path / "model", tmp_path / "other"
    original = running.preference
    calls: list[int] = []

    def interrupting(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(running, "preference", interrupting)
    assert main(["train", "--out", str(out), *TINY]) == 130
    said = capsys.readouterr()
    assert f"{out}.unfinished.safetensors is kept, and the same command goes on from it" in said.err
    assert not out.exists()
    assert main(["train", "--out", str(out), *TINY]) == 0
    assert "goes on after step 1" in capsys.readouterr().out
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    assert main(["train", "--out", str(other), *TINY]) == 0
    assert (out / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_the_card_names_what_is_not_the_default():
    assert running.command_line(Recipe(seed=4, n_layers=6)) == "weights-tools train --out DIR --seed 4 --n-layers 6"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "--out"),
        (["train", "--out", "DIR", "--stepz", "3"], "--stepz"),
        (["train", "--out", "DIR", "--steps", "many"], "--steps"),
        (["train", "--out", "DIR", "--steps", "0"], "steps is 0"),
        (["train", "--out", "DIR", "--n-ctx", "64"], "n_ctx is 64"),
        (["trian"], "trian"),
        (["plant", "--out", "DIR"], "FAMILY"),
        (["plant", "inductoin", "--out", "DIR"], "choose one of induction, chain"),
        (["plant", "induction", "--out", "DIR", "--strength", "-1"], "strength is -1.0"),
        (["plant", "induction", "--out", "DIR", "--seed", "-1"], "seed is -1"),
        ([], "train"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_is_refused_before_any_training(tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_plant_writes_a_model_that_can_be_read_with_its_prompts_and_its_truth(tmp_path, capsys):
    out = tmp_path / "a model"
    assert main(["plant", "chain", "--out", str(out), "--strength", "0.25", "--seed", "1"]) == 0
    assert "svdtrace score-truth '" in capsys.readouterr().out
    names = {"model.safetensors", "config.json", "prompts.jsonl", "truth.json"}
    assert {each.name for each in out.iterdir()} == names
    model, planted = gpt2jax.load(out), plant("chain", 0.25, seed=1)
    assert gpt2jax.fingerprint(model) == gpt2jax.fingerprint(planted.model)
    prompts = svdtrace.prompts.read(str(out / "prompts.jsonl"), None, config=model.config)
    assert [each.tokens for each in prompts] == [each.tokens for each in planted.circuit.prompts]
    assert prompts[0].roles == planted.circuit.prompts[0].roles
    said = json.loads((out / "truth.json").read_text())
    edge = {"writer": "1.0", "reader": "2.0", "side": "dest", "t": "end", "i": "end", "j": "x3", "share": 1.0}
    assert said["edges"][3] == edge
    assert np.shape(said["signals"][3]) == (model.config.d_model, 7)
    assert list(read_truth(out).edges) == list(planted.truth.edges)
    assert main(["plant", "chain", "--out", str(out)]) == 2
    assert "not an empty folder" in capsys.readouterr().err


def test_the_help_of_plant_names_every_family(capsys):
    assert main(["plant", "--help"]) == 0
    assert set(FAMILIES) <= set(re.findall(r"\w+", capsys.readouterr().out))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_is_shown(arguments, capsys):
    assert main(arguments) == 0
    assert "usage: weights-tools" in capsys.readouterr().out
