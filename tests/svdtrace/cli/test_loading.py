"""Prompts from options: lines without any are counted and told, and tables number prompts as their lines are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import svdtrace
from svdtrace.cli import main
from svdtrace.cli.loading import places_of, read_prompts
from svdtrace.cli.options import PromptChoice


def test_an_empty_line_is_counted_in_a_traces_tables(
    model_folder: Path, prompt_file: Path, traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first, *others = prompt_file.read_text().splitlines(keepends=True)
    path = tmp_path / "p.jsonl"
    path.write_text(first + "\n \n" + "".join(others) + "\n\n")
    options = ["--prompts", str(path), "--threshold", "0.3", "--quiet"]
    assert main(["trace", "--model", str(model_folder), *options, "--out", str(tmp_path / "out")]) == 0
    assert (
        capsys.readouterr().err == f"note: {path}: 2 lines are empty; later prompts keep the numbers of their lines\n"
    )
    found, whole = svdtrace.read(tmp_path / "out"), svdtrace.read(traced)
    assert found.manifest["prompts"]["rejected"] == 2
    for name in ("prompts", "firings", "edges"):
        own, other = getattr(found, name), getattr(whole, name)
        assert own["prompt"].to_pylist() == [{0: 0, 1: 3, 2: 4}[place] for place in other["prompt"].to_pylist()]
        assert own.drop_columns("prompt").equals(other.drop_columns("prompt"))
    assert len(found.firings)


def test_texts_come_after_a_file_of_prompts(model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = svdtrace.bundled_model()
    path = tmp_path / "p.jsonl"
    for lines, places in (([], None), ([""], [1, 2, 3])):
        path.write_text("\n".join([*lines, json.dumps({"text": "Mary"})]))
        choice = PromptChoice(prompts=str(path), text=("John", "Mary and John"))
        found = read_prompts(choice, model.tokenizer, model.config)
        assert places_of(found) == places
    assert capsys.readouterr().err == f"note: {path}: 1 line is empty; later prompts keep the numbers of their lines\n"
