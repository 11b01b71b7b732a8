"""The command `weights-tools train`: what it writes, prints and refuses."""

from __future__ import annotations

import json

import pytest

import gpt2jax
from weights_tools import train_command
from weights_tools.cli import main
from weights_tools.recipe import Recipe

TINY = "--steps 2 --rows 2 --n-layers 1 --n-heads 2 --d-model 8 --n-ctx 80 --warm-up 1".split()


@pytest.mark.full
def test_train_writes_a_model_with_its_card(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(train_command, "_EVALUATED", 16)
    monkeypatch.setattr(train_command, "_QUICK", 16)
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


def test_the_card_names_what_is_not_the_default():
    assert (
        train_command.command_line(Recipe(seed=4, n_layers=6)) == "weights-tools train --out DIR --seed 4 --n-layers 6"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train"], "--out"),
        (["train", "--out", "DIR", "--stepz", "3"], "--stepz"),
        (["train", "--out", "DIR", "--steps", "many"], "--steps"),
        (["train", "--out", "DIR", "--steps", "0"], "steps is 0"),
        (["train", "--out", "DIR", "--n-ctx", "64"], "n_ctx is 64"),
        (["trian"], "trian"),
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


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_is_shown(arguments, capsys):
    assert main(arguments) == 0
    assert "usage: weights-tools" in capsys.readouterr().out
