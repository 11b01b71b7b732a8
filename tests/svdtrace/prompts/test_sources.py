"""What a folder is taken to hold, how many prompts there are to come, and lines without any."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from svdtrace import prompts
from svdtrace.errors import PromptError
from svdtrace.prompts.expected import expected
from svdtrace.prompts.sources import EmptyLineError, records

LINE = json.dumps({"tokens": [1]}) + "\n"


def places(source: str) -> list[int | None]:
    return [prompt.place for prompt in prompts.read(source, None)]


def test_names_that_systems_put_beside_files_are_left_out(tmp_path: Path):
    folder = tmp_path / ".a_folder"
    folder.mkdir()
    (folder / "a.jsonl").write_text(LINE * 2)
    (folder / "._a.jsonl").write_bytes(b"\x00\x05\x16\x07")
    (folder / "_a.jsonl").write_text(LINE)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "_b.parquet").write_text("no parquet")
    (folder / ".b.jsonl.gz").write_text("no gzip")
    (folder / "linked.jsonl").symlink_to(folder / "a.jsonl")
    assert places(str(folder)) == [0, 1, 2, 3]
    assert expected(str(folder)) == 4
    assert len(prompts.read(str(folder / "_a.jsonl"), None)) == 1
    for name in ("a.jsonl", "linked.jsonl"):
        (folder / name).unlink()
    assert expected(str(folder)) is None
    with pytest.raises(PromptError, match="a folder without"):
        prompts.read(str(folder), None)


def test_a_traces_own_tables_are_not_counted_as_prompts(tmp_path: Path):
    parquet.write_table(pa.table({"tokens": [[1], [2]]}), tmp_path / "prompts.parquet")
    parquet.write_table(pa.table({"weight": [1.0]}), tmp_path / "edges.parquet")
    assert expected(str(tmp_path)) == len(prompts.read(str(tmp_path), None)) == 2


@pytest.mark.parametrize("source", ["ioi:20:3", "ordinary:20"])
def test_a_generator_says_how_many(source: str):
    assert expected(source) == 20


EMPTY = "\ufeff\n" + LINE + "\n \t\n" + LINE + "\r\n\n"


def test_an_empty_line_takes_a_place_unless_no_record_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "p.jsonl"
    path.write_text(EMPTY, encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(EMPTY.encode())))
    for source, name in ((str(path), str(path)), ("-", "standard input")):
        found = list(records(source, None, 0))
        assert [where for where, _ in found] == [f"{name} line {number}" for number in range(1, 6)]
        assert [isinstance(record, EmptyLineError) for _, record in found] == [True, False, True, True, False]
    assert places(str(path)) == [1, 4]
    assert expected(str(path)) == 5


def test_a_files_name_may_be_no_unicode(tmp_path: Path):
    """Bytes of another encoding, as old archives hold them."""
    for ending, write in ((".jsonl", lambda path: path.write_text("{}\n")), (".parquet", written_badly)):
        path = tmp_path / f"p\udcff{ending}"
        write(path)
        assert expected(str(path)) == 1
        with pytest.raises(PromptError, match=r'(line|row) 1: (neither "text" nor "tokens"|the prompt has no tokens)'):
            prompts.read(str(path), None)


def written_badly(path: Path) -> None:
    with path.open("wb") as file:
        parquet.write_table(pa.table({"tokens": pa.array([[]], pa.list_(pa.int32()))}), file)
