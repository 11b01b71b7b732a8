"""Prompts from compressed files, standard input and parquet; damage is named."""

from __future__ import annotations

import gzip
import io
import re
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from svdtrace import prompts
from svdtrace.errors import PromptError


def test_gzip_and_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "prompts.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"tokens": [1]}\r\n{"tokens": [2]}'))
    assert [prompt.tokens for prompt in prompts.read(str(path), None)] == [(1,), (2,)]


@pytest.mark.parametrize(
    "content",
    [b"plain", gzip.compress(b'{"tokens": [1]}\n' * 99)[:-12]],
    # Compressed bytes hold the second they were made in; as names they would differ between workers.
    ids=["not compressed", "cut short"],
)
def test_a_damaged_gzip_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "prompts.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(PromptError, match=re.escape(f"{path}: damaged gzip file")):
        prompts.read(str(path), None)


def test_standard_input(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"tokens": [1]}\n{"tokens": []}\n')))
    with pytest.raises(PromptError, match="standard input line 2: the prompt has no tokens"):
        prompts.read("-", None)


def written(path: Path, columns: dict[str, pa.Array]) -> str:
    parquet.write_table(pa.table(columns), path)
    return str(path)


def test_parquet_as_a_trace_writes_it(tmp_path: Path):
    columns = {
        "prompt": pa.array([0, 1], pa.int32()),
        "id": pa.array(["a", None]),
        "tokens": pa.array([[1, 2], [3]], pa.list_(pa.int32())),
        "roles": pa.array([[("end", 1), ("IO", 0)], []], pa.map_(pa.string(), pa.int32())),
        "answer": pa.array([4, None], pa.int32()),
    }
    path = written(tmp_path / "prompts.parquet", columns)
    written(tmp_path / "edges.parquet", {"weight": pa.array([1.0])})
    expected = [
        prompts.Prompt("a", (1, 2), ("1", "2"), {"end": 1, "IO": 0}, 4),
        prompts.Prompt(None, (3,), ("3",)),
    ]
    assert prompts.read(path, None) == expected
    assert prompts.read(str(tmp_path), None) == expected
    assert list(prompts.read(path, None)[0].roles) == ["end", "IO"]


def test_a_folder_of_parts_is_read_in_order_of_their_names(tmp_path: Path):
    for number in (1, 0):
        written(tmp_path / f"part-{number}.parquet", {"tokens": pa.array([[number]])})
    (tmp_path / "part-2.parquet.tmp").write_text("unfinished")
    assert [prompt.tokens for prompt in prompts.read(str(tmp_path), None)] == [(0,), (1,)]


def test_parquet_with_gaps_as_table_libraries_write_them(tmp_path: Path):
    columns = {
        "tokens": pa.array([[1], [2]]),
        "answer": pa.array([3.0, float("nan")]),
        "roles": pa.array([{"IO": 0, "S": None}, {"IO": None, "S": 0}]),
    }
    found = prompts.read(written(tmp_path / "p.parquet", columns), None)
    assert [(prompt.answer, prompt.roles) for prompt in found] == [(3, {"IO": 0}), (None, {"S": 0})]


def test_parquet_faults_are_named(tmp_path: Path):
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 and then something else")
    cases = {
        str(damaged): "damaged.parquet: not a readable parquet file",
        written(
            tmp_path / "row.parquet", {"tokens": pa.array([[1], []], pa.list_(pa.int32()))}
        ): "row.parquet row 2: the",
        written(
            tmp_path / "columns.parquet", {"words": pa.array(["x"])}
        ): 'expected a column "text" or "tokens", found words',
    }
    for path, said in cases.items():
        with pytest.raises(PromptError, match=re.escape(said)):
            prompts.read(path, None)
