"""Prompts from options: lines without any are counted and told, and tables number prompts as their lines are."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import svdtrace
from svdtrace.cli import main
from svdtrace.cli.loading import places_of, read_prompts
from svdtrace.cli.options import PromptChoice
from svdtrace.cli.places import said_at_places
from svdtrace.method.bounds import ACTIVATION_ERROR


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
    for lines, places in (([], [0, 1, 2]), ([""], [1, 2, 3])):
        path.write_text("\n".join([*lines, json.dumps({"text": "Mary"})]))
        choice = PromptChoice(prompts=str(path), text=("John", "Mary and John"))
        found = read_prompts(choice, model.tokenizer, model.config)
        assert places_of(found) == places
    assert capsys.readouterr().err == f"note: {path}: 1 line is empty; later prompts keep the numbers of their lines\n"


def spaced(prompt_file: Path, folder: Path) -> Path:
    """The same prompts with an empty line between them."""
    path = folder / "empty.jsonl"
    path.write_text("\n".join(prompt_file.read_text().splitlines(keepends=True)))
    return path


def test_every_command_numbers_prompts_as_their_lines_are(
    model_folder: Path, prompt_file: Path, traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a note that prompts keep their lines' numbers above tables in which they do not."""
    path = spaced(prompt_file, tmp_path)
    model = ["--model", str(model_folder), "--prompts", str(path)]

    edit = ["--edges", "0.1:1.1@7:IO/dest", "--direction", "ablate", "--where", "local", "--quiet"]
    assert main(["intervene", *model, *edit, "--out", str(tmp_path / "edited")]) == 0
    known = svdtrace.read(traced).prompts["logit_difference"].to_pylist()
    for name in ("interventions", "measures"):
        table = pq.read_table(tmp_path / "edited" / f"{name}.parquet")
        assert table["prompt"].to_pylist() == [0, 2, 4]
        if name == "interventions":
            within = ACTIVATION_ERROR * max(1.0, *map(abs, known))
            assert table["logit_difference_before"].to_pylist() == pytest.approx(known, abs=within)

    assert json.loads((tmp_path / "edited" / "manifest.json").read_text())["prompts"]["rejected"] == 2
    capsys.readouterr()
    assert main(["tokens", *model, "--json"]) == 0
    assert [each["prompt"] for each in json.loads(capsys.readouterr().out)["prompts"]] == [0, 2, 4]


@pytest.mark.full
def test_characterise_numbers_prompts_as_their_lines_are(model_folder: Path, prompt_file: Path, tmp_path: Path):
    path = spaced(prompt_file, tmp_path)
    model = ["--model", str(model_folder), "--prompts", str(path)]
    beside = ["--threshold", "0.3", "--contrast", str(prompt_file), "--most-pairs", "0", "--quiet"]
    assert main(["characterise", *model, *beside, "--out", str(tmp_path / "heads")]) == 0
    rows = pq.read_table(tmp_path / "heads" / "vectors_by_prompt.parquet").to_pylist()
    own, other = ([row for row in rows if row["data_set"] == name] for name in ("prompts", "contrast"))
    assert own
    assert [row | {"data_set": "prompts", "prompt": 2 * row["prompt"]} for row in other] == own
    assert json.loads((tmp_path / "heads" / "manifest.json").read_text())["prompts"]["rejected"] == 2


def test_a_manifest_names_prompts_by_their_lines():
    said = {
        "prompts": {"count": 2, "rejected": 0},
        "near_ties": {"pairs": 1, "named": ["prompt 1: 2.1@7:4 (slice)"]},
        "not_finite": {"prompts": 1, "named": ['prompt 0 ("prompt 1")']},
        "chance": {"not_finite": {"prompts": 1, "named": ["prompt 2"]}},
    }
    told = said_at_places(said, [1, 4, 6], {"rejected": 4})
    assert told["prompts"] == {"count": 2, "rejected": 4}
    assert told["near_ties"]["named"] == ["prompt 4: 2.1@7:4 (slice)"]
    assert told["not_finite"]["named"] == ['prompt 1 ("prompt 1")']
    assert told["chance"]["not_finite"]["named"] == ["prompt 6"]
