"""`svdtrace characterise` writes its tables, and says what a person or a program can read."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from undescribed_columns import undescribed

from svdtrace.characterisation.pictures import PICTURES
from svdtrace.characterisation.schemas import SCHEMAS
from svdtrace.cli import main


@pytest.fixture(scope="module")
def given(model_folder: Path, prompt_file: Path) -> list[str]:
    return ["characterise", "--model", str(model_folder), "--prompts", str(prompt_file), "--threshold", "0.3"]


@pytest.fixture(scope="module")
def written(given: list[str], prompt_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("characterised") / "out"
    assert main([*given, "--contrast", str(prompt_file), "--out", str(out), "--quiet"]) == 0
    return out


@pytest.mark.whole
def test_it_writes_every_table_with_its_columns(written: Path):
    tables = {path.stem: pq.read_table(path) for path in written.glob("*.parquet")}
    assert {name: table.schema for name, table in tables.items()} == SCHEMAS
    assert undescribed(written) == []
    assert all(table.num_rows for table in tables.values())
    for name in PICTURES:
        assert {(written / f"{name}.svg").exists(), (written / f"{name}.png").exists()} == {True}
    assert set(tables["heads"]["data_set"].to_pylist()) == {"prompts", "contrast"}
    manifest = json.loads((written / "manifest.json").read_text())
    assert manifest["command"] == "characterise"
    assert manifest["config"]["threshold"] == 0.3
    assert manifest["counts"]["firings"] == manifest["data_sets"]["contrast"]["firings"] > 0


@pytest.mark.full
def test_it_closes_with_a_table_or_one_object(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt_file: Path
):
    assert main([*given, "--out", str(tmp_path / "one"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["data_sets"]["prompts"]["prompts"] == 3
    assert len(content["tau"]) == 11
    assert main([*given, "--contrast", str(prompt_file), "--out", str(tmp_path / "one")]) == 0
    out = capsys.readouterr().out
    for words in (
        "where heads fire",
        "Heads that fire most",
        "contrast",
        "What τ costs",
        "Strongest signals",
        "heads.png",
    ):
        assert words in out


@pytest.mark.full
def test_a_firing_that_is_asked_for_is_answered_first(
    given: list[str], written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = pq.read_table(written / "firing_products.parquet").to_pylist()[0]
    spec = "{layer}.{head}@{dest}:{src}".format(**first)
    asked = [*given, "--firing", spec, "--out", str(tmp_path / "one")]
    assert main([*asked, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["firing"]
    products = pq.read_table(tmp_path / "one" / "firing_products.parquet").to_pylist()
    assert [row["k"] for row in answer["slice"]] == [row["k"] for row in products if row["member"]]
    assert answer["products"] == len(products)
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert f"all products sum to {products[0]['total']:.2f}" in out.split("where heads fire")[0]
    assert str(tmp_path / "one" / "firing_products.png") in out.replace("\n", "")


@pytest.mark.full
def test_names_come_from_roles_or_a_file(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], prompt_file: Path
):
    names = tmp_path / "names.txt"
    names.write_text("3\n\n5\n")
    assert main([*given, "--names", str(names), "--most-pairs", "0", "--out", str(tmp_path / "one"), "--quiet"]) == 0
    rows = pq.read_table(tmp_path / "one" / "tokens.parquet").to_pylist()
    assert {row["token"] for row in rows if row["named"]} <= {3, 5}
    names.write_text("99\n")
    assert main([*given, "--names", str(names), "--out", str(tmp_path / "two")]) == 2
    assert "line 1" in capsys.readouterr().err
    assert main([*given, "--method", "all", "--out", str(tmp_path / "two")]) == 2
    assert "choose paper, exact or relative" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()
