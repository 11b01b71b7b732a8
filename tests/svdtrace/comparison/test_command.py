"""`svdtrace compare`: from a model folder to tables, picture and one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from checkpoints.folders import CONFIG as SHAPE
from checkpoints.folders import tensors, write_folder
from matplotlib.figure import Figure
from picture_faults import faults
from undescribed_columns import undescribed

from svdtrace.cli import main
from svdtrace.comparison.removing import FALLS, METHODS
from svdtrace.comparison.tables import AGREEMENT, EFFECTS, REMOVALS, correlations

CONFIG = {**SHAPE, "n_embd": 16, "n_inner": 32, "n_positions": 16, "vocab_size": 23, "bos_token_id": 22}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A random model without a tokenizer, sharp enough to fire, and prompts for it."""
    folder = tmp_path_factory.mktemp("compared")
    rows = [{"tokens": [(n + 1) * (t + 2) % 22 for t in range(9)]} for n in range(2)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = write_folder(folder / "model", tensors(CONFIG), CONFIG)
    return ["compare", "--model", str(model), "--prompts", str(folder / "prompts.jsonl"), "--threshold", "0.3"]


@pytest.mark.whole
def test_a_model_is_compared_and_the_result_is_whole(given, tmp_path: Path, capsys, monkeypatch) -> None:
    """Catches tables without their meaning, correlations of another side, sums that the manifest has otherwise."""
    seen, save = [], Figure.savefig

    def watched(figure: Figure, *args: Any, **named: Any) -> None:
        seen.append(faults(figure))
        save(figure, *args, **named)

    monkeypatch.setattr(Figure, "savefig", watched)
    out = tmp_path / "out"
    assert main([*given, "--out", str(out), "--json", "--draws", "3"]) == 0
    names = {"effects.parquet", "removals.parquet", "agreement.parquet", "compare.svg", "compare.png", "manifest.json"}
    assert {path.name for path in out.iterdir()} == names
    assert undescribed(out) == []
    said = json.loads(capsys.readouterr().out)
    tables = {name: pq.read_table(out / f"{name}.parquet") for name in ("effects", "removals", "agreement")}
    for name, schema in (("effects", EFFECTS), ("removals", REMOVALS), ("agreement", AGREEMENT)):
        assert tables[name].schema.equals(schema)
    assert said["agreement"] == tables["agreement"].to_pylist()
    assert said["counts"]["firings"] > 5
    effects = [row for row in tables["effects"].to_pylist() if row["side"] == "src"]
    (found,) = [
        row
        for row in said["agreement"]
        if (row["side"], row["counterfactual"], row["method"]) == ("src", "fall_at_src", "own")
    ]
    whole = np.corrcoef([row["own"] for row in effects], [row["fall_at_src"] for row in effects])[0, 1]
    assert abs(found["correlation"] - whole) < 1e-12
    assert len(said["agreement"]) == sum(len(METHODS[side]) * len(FALLS[side]) for side in METHODS)
    counted = [row["exact"] for row in tables["removals"].to_pylist() if row["side"] == "dest" and row["best"]]
    assert said["removals"]["dest"]["writers"]["exact"] == np.mean(counted)
    assert seen
    assert not any(any(each.values()) for each in seen), seen


@pytest.mark.whole
def test_its_tables_fit_a_terminal(given, tmp_path: Path, capsys) -> None:
    assert main([*given, "--out", str(tmp_path / "out"), "--draws", "3"]) == 0
    told = capsys.readouterr().out
    tables = [line for line in told.splitlines() if "/" in line and "Written" not in line]
    assert len(tables) > 10
    assert max(map(len, tables)) <= 80


def test_nothing_fires(given, tmp_path: Path, capsys) -> None:
    """Catches correlations of nothing, and a picture that is drawn of it."""
    assert main([*given[:-1], "1.0", "--out", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == {"firings": 0, "effects": 0}
    assert said["agreement"][0]["correlation"] is None
    assert said["removals"]["dest"]["writers"]["best"] is None


def test_correlations_within_firings_know_no_scale() -> None:
    """Catches means over all pairs, and groups that do not vary counted as 0."""
    weight, fall = np.asarray([1.0, 2, 3, 10, 20, 5, 5]), np.asarray([2.0, 4, 6, -1, -2, 1, 2])
    whole, within = correlations(weight, fall, np.asarray([0, 0, 0, 1, 1, 2, 2]))
    assert whole == pytest.approx(np.corrcoef(weight, fall)[0, 1])
    assert within == pytest.approx(0.0)


@pytest.mark.parametrize("wrong", [["--draws", "0"], ["--seed", "-1"], ["--threshold", "0"]])
def test_wrong_options_are_refused(given, wrong: list[str], tmp_path: Path, capsys) -> None:
    assert main([*given, *wrong, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
