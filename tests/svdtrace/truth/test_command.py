"""`svdtrace score-truth`: from a planted folder to tables, picture and one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from picture_faults import faults
from undescribed_columns import undescribed

from svdtrace.cli import main
from svdtrace.truth.folder import TRUTH, write
from svdtrace.truth.planting import plant
from svdtrace.truth.power import CLAIMS
from svdtrace.truth.rivals import RIVALS
from svdtrace.truth.tables import EDGES, POWER, SCORES

QUICKLY = ("--coverage", "0.7", "0.999", "--method", "paper", "exact")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planted") / "model"
    write(plant("induction", 0.3), folder)
    return folder


@pytest.mark.whole
def test_a_folder_is_scored_and_the_result_is_whole(folder: Path, tmp_path: Path, capsys, monkeypatch):
    seen, save = [], Figure.savefig

    def watched(figure: Figure, *args: Any, **named: Any) -> None:
        seen.append(faults(figure))
        save(figure, *args, **named)

    monkeypatch.setattr(Figure, "savefig", watched)
    out, given = tmp_path / "out", ("--no-rivals", "--strength", "1.5")
    assert main(["score-truth", str(folder), "--out", str(out), "--json", *given, *QUICKLY]) == 0
    names = {"scores.parquet", "edges.parquet", "curves.svg", "curves.png", "manifest.json"}
    assert {path.name for path in out.iterdir()} == names
    assert undescribed(out) == []
    said, scores = json.loads(capsys.readouterr().out), pq.read_table(out / "scores.parquet")
    assert scores.schema.equals(SCORES)
    assert pq.read_schema(out / "edges.parquet").equals(EDGES)
    assert said["scores"] == scores.to_pylist()
    assert said["truth"] == {"family": "induction", "strength": 0.3, "seed": 0, "roots": "4.0@end:B"}
    by = by_run(said)
    assert len(by) == 2 * 2 * 2
    # What embeds write has no head to be found.
    assert by["paper", 0.3, 0.999]["nameless"] == 16 * 3
    assert by["exact", 0.3, 0.999]["precision"] < by["exact", 0.3, 0.7]["precision"]
    assert by["exact", 1.5, 0.7]["reached"] < 0.5
    assert seen
    assert not any(any(each.values()) for each in seen), seen


@pytest.mark.full
def test_rivals_are_scored_beside(folder: Path, tmp_path: Path, capsys):
    arguments = ["score-truth", str(folder), "--out", str(tmp_path / "out"), "--json", "--strength", "0"]
    assert main([*arguments, "--method", "exact", "--coverage", "0.999"]) == 0
    by = by_run(json.loads(capsys.readouterr().out))
    assert {method for method, _, _ in by} == {"exact", *RIVALS}
    assert (by["path patching", 0.0, 0.999]["precision"], by["path patching", 0.0, 0.999]["recall"]) == (1, 1)
    # Softmax is saturated: where a head looks at one token alone, its slope says nothing of the edge.
    assert by["attribution patching", 0.0, 0.999]["recall"] == 0.5
    assert by["composition scores", 0.3, 0.999]["precision_heads"] < 0.2


@pytest.mark.full
def test_the_nulls_are_held_against_what_was_planted(folder: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    few = ("--method", "exact", "--coverage", "0.7", "--no-rivals", "--strength", "0.3", "--power", "20")
    assert main(["score-truth", str(folder), "--out", str(out), "--json", *few]) == 0
    rows = json.loads(capsys.readouterr().out)["power"]
    assert pq.read_table(out / "power.parquet").schema.equals(POWER)
    assert {"power.svg", "power.png"} <= {path.name for path in out.iterdir()}
    assert undescribed(out) == []
    assert [(row["claim"], row["nulls"]) for row in rows] == [(c, n) for c in CLAIMS for n in (1, 2, 20)]
    last = rows[2]
    # Of the four edges one goes by position, to which shuffled prompts say nothing.
    assert last["true"] == 4
    assert last["beats_slices"] == 1
    assert last["beats_prompts"] == 1
    # Nothing can survive so few draws, and fewer draws leave no smaller p.
    assert all(row["surviving"] == row["others"] == 0 for row in rows)
    assert rows[0]["beats_slices"] == 0
    assert last["others_beat_slices"] < 1


def by_run(said: dict[str, Any]) -> dict[tuple[str, float, float], dict[str, Any]]:
    return {(row["method"], round(row["strength"], 3), round(row["coverage"], 3)): row for row in said["scores"]}


@pytest.mark.whole
def test_the_tables_fit_80_columns(folder: Path, tmp_path: Path, capsys):
    arguments = ["score-truth", str(folder), "--out", str(tmp_path / "out"), "--no-rivals", "--strength", "0.3"]
    assert main([*arguments, *QUICKLY]) == 0
    said = capsys.readouterr().out
    assert "Coverage 0.7: precision/recall" in said
    assert "Coverage 0.999: precision/recall" in said
    assert "embed:4.0@end:B/dest in 100%" in said
    tables = [line for line in said.splitlines() if line.startswith(" ")]
    assert tables
    assert max(map(len, tables)) <= 80


@pytest.mark.whole
def test_a_model_made_elsewhere_is_scored_alone(folder: Path, tmp_path: Path, capsys):
    mine = tmp_path / "mine"
    copytree(folder, mine)
    truth = json.loads((mine / TRUTH).read_text())
    (mine / TRUTH).write_text(json.dumps({name: truth[name] for name in ("roots", "edges", "signals")}))
    arguments = ["score-truth", str(mine), "--out", str(tmp_path / "out"), "--no-rivals", "--method", "exact"]
    assert main([*arguments, "--coverage", "0.7"]) == 0
    assert "A circuit planted elsewhere: 4 edges, 16 prompts, from 4.0@end:B" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "out" / "scores.parquet")["strength"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["nowhere"], "truth.json"),
        (["FOLDER", "--method", "exactly"], "--method"),
        (["FOLDER", "--coverage", "2"], "coverage is 2"),
        (["FOLDER", "--strength", "-1"], "strength"),
        (["FOLDER", "--power", "0"], "nulls is 0"),
        (["FOLDER", "--out", "FOLDER"], "names another folder|name another folder"),
    ],
)
def test_what_cannot_be_scored_is_one_line(folder: Path, tmp_path: Path, capsys, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    assert main(["score-truth", *(str(folder) if each == "FOLDER" else each for each in given)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert any(each in said.err for each in message.split("|"))
    assert not list(tmp_path.iterdir())
