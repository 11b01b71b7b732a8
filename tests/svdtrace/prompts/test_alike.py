"""One record, read alike from every source: whole floats, gaps, NumPy's values, maps; booleans are refused."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from svdtrace import prompts
from svdtrace.errors import PromptError

WHOLE = prompts.Prompt("a", (3, 1, 2), ("3", "1", "2"), {"end": 1, "IO": 0}, 5)
GAPS = prompts.Prompt(None, (3,), ("3",))
RECORDS = [
    {"id": "a", "tokens": [3.0, 1.0, 2.0], "roles": {"end": 1.0, "IO": 0.0}, "answer": 5.0, "distractor": float("nan")},
    {"id": None, "tokens": [3.0], "roles": {"end": float("nan"), "IO": None}, "answer": None, "distractor": None},
]


def in_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prompts.Prompt]:
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    return prompts.read(str(tmp_path / "p.jsonl"), None)


def in_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prompts.Prompt]:
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, RECORDS)).encode()))
    return prompts.read(str(tmp_path / "p.jsonl.gz"), None)


def in_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prompts.Prompt]:
    given = io.TextIOWrapper(io.BytesIO("\n".join(map(json.dumps, RECORDS)).encode()))
    monkeypatch.setattr(sys, "stdin", given)
    return prompts.read("-", None)


def in_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prompts.Prompt]:
    first = {
        "id": np.str_("a"),
        "tokens": np.array([3, 1, 2], np.uint16),
        "roles": {"end": np.int64(1), "IO": np.float32(0)},
        "answer": Decimal("5"),
        "distractor": np.float64("nan"),
    }
    return prompts.from_records((each for each in (first, {**RECORDS[1], "roles": np.nan})), None)


def pairs_as_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prompts.Prompt]:
    listed = [{**each, "roles": list(map(list, each["roles"].items()))} for each in RECORDS]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, listed)))
    return prompts.read(str(tmp_path / "p.jsonl"), None)


def in_parquet(roles: pa.DataType, form: Callable[[dict[str, Any]], Any]) -> Any:
    def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[prompts.Prompt]:
        columns = {
            "id": pa.array([each["id"] for each in RECORDS]),
            "tokens": pa.array([each["tokens"] for each in RECORDS], pa.list_(pa.float64())),
            "roles": pa.array([form(each["roles"]) for each in RECORDS], roles),
            "answer": pa.array([5.0, float("nan")]),
        }
        parquet.write_table(pa.table(columns), tmp_path / "p.parquet")
        return prompts.read(str(tmp_path / "p.parquet"), None)

    return read


FLOAT = pa.float64()
STRUCT = pa.struct([("key", pa.string()), ("value", FLOAT)])
SOURCES = {
    "lines": in_lines,
    "gzip": in_gzip,
    "standard input": in_standard_input,
    "objects": in_objects,
    "pairs": pairs_as_lists,
    "struct": in_parquet(pa.struct([("end", FLOAT), ("IO", FLOAT)]), lambda roles: roles),
    "map": in_parquet(pa.map_(pa.string(), FLOAT), lambda roles: list(roles.items())),
    "structs": in_parquet(
        pa.list_(STRUCT), lambda roles: [{"key": name, "value": value} for name, value in roles.items()]
    ),
}


@pytest.mark.parametrize("source", SOURCES)
def test_the_same_record_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str):
    found = SOURCES[source](tmp_path, monkeypatch)
    assert found == [WHOLE, GAPS]
    assert list(found[0].roles) == ["end", "IO"]
    numbers = [*found[0].tokens, *found[0].roles.values(), found[0].answer]
    assert {type(each) for each in numbers} == {int}


@pytest.mark.parametrize("wrong", [True, np.bool_(True), 1.5, float("inf"), Decimal("1.5"), "1", b"1", [1]])
@pytest.mark.parametrize("field", ["tokens", "roles", "answer"])
def test_what_is_no_whole_number_is_refused(field: str, wrong: Any):
    record = {"tokens": [1, 2], field: {"tokens": [1, wrong], "roles": {"IO": wrong}}.get(field, wrong)}
    with pytest.raises(PromptError, match=r'^record 1: (role "IO" is|answer is|"tokens" must be)'):
        prompts.from_records([record], None)


def test_a_gap_among_tokens_is_refused():
    with pytest.raises(PromptError, match='"tokens" must be a list of token ids'):
        prompts.from_records([{"tokens": [1, float("nan")]}], None)


def test_columns_are_named_as_keys_are(tmp_path: Path):
    said = 'unknown key "role"; did you mean "roles"'
    parquet.write_table(pa.table({"tokens": [[1]], "role": ["x"]}), tmp_path / "p.parquet")
    for read in (
        lambda: prompts.read(str(tmp_path / "p.parquet"), None),
        lambda: prompts.from_records([{"tokens": [1], "role": "x"}], None),
    ):
        with pytest.raises(PromptError, match=said):
            read()
