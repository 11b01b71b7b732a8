"""SQL over the tables of a trace and of a sweep; nothing else is within its reach."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from svdtrace.errors import QueryError, TraceFolderError
from svdtrace.tracing import tables

pytest.importorskip("duckdb", reason="needs the extra `query`: DuckDB")

from svdtrace.folders.querying import ask


def firings(prompts: list[int]) -> pa.Table:
    rows = [{"prompt": each, "layer": 1, "head": each % 2, "slice": [0, 3], "pattern": None} for each in prompts]
    return pa.Table.from_pylist(rows, schema=tables.FIRINGS)


@pytest.fixture
def traced(tmp_path: Path) -> Path:
    folder = tmp_path / "it's a trace"
    folder.mkdir()
    pq.write_table(firings([0, 1, 2]), folder / "firings.parquet")
    return folder


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    folder = tmp_path / "sweep"
    for name in ("prompts", "firings"):
        (folder / name).mkdir(parents=True)
    for number in range(4):
        # The prompts' part is put in place last: without it the part is not whole.
        if number < 3:
            pq.write_table(tables.PROMPTS.empty_table(), folder / "prompts" / f"part-0000{number}.parquet")
        pq.write_table(firings([2 * number, 2 * number + 1]), folder / "firings" / f"part-0000{number}.parquet")
    (folder / "firings" / "part-00004.parquet.tmp").write_bytes(b"unfinished")
    return folder


def test_a_trace_answers(traced: Path):
    columns, rows = ask(traced, "select head, count(*) as n, max(slice) as s from firings group by head order by head")
    assert columns == ["head", "n", "s"]
    assert rows == [(0, 2, [0, 3]), (1, 1, [0, 3])]


@pytest.mark.parametrize(
    "name", ["g[ab]", "g*", "g?", "g[", "g[!b]", 'g"', "layer=3", "g\\x", "s3:g", "g;drop"], ids=ascii
)
def test_a_name_is_no_pattern(tmp_path: Path, name: str):
    """A neighbour whose name a pattern would match is another folder; `layer=3` is no column."""
    for folder, prompts in ((name, [7]), ("ga", [1, 2]), ("g", [1, 2])):
        (tmp_path / folder).mkdir()
        pq.write_table(firings(prompts), tmp_path / folder / "firings.parquet")
        for table in ("prompts", "firings"):
            (tmp_path / folder / "swept" / table).mkdir(parents=True)
        for table, content in (("prompts", tables.PROMPTS.empty_table()), ("firings", firings(prompts))):
            pq.write_table(content, tmp_path / folder / "swept" / table / "part-00000.parquet")
    for folder in (tmp_path / name, tmp_path / name / "swept"):
        assert ask(folder, "select sum(prompt), max(layer) from firings")[1] == [(7, 1)]


def test_a_damaged_table_is_told(traced: Path):
    (traced / "edges.parquet").write_bytes(b"PAR1")
    with pytest.raises(TraceFolderError, match="its tables cannot be read"):
        ask(traced, "select 1")


def test_a_sweep_answers_from_all_its_parts(swept: Path):
    assert ask(swept, "select count(*), sum(prompt) from firings")[1] == [(6, 15)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select nope from firings", r"nope.*the views are firings"),
        ("select * from edges", r"edges.*the views are firings"),
        ("select 1 +", "cannot be answered"),
        ("select * from read_csv('/etc/hostname')", "cannot be answered"),
        ("copy firings to 'out.csv'", "cannot be answered"),
        ("set enable_external_access = true", "cannot be answered"),
    ],
)
def test_what_cannot_be_asked(traced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, said: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(QueryError, match=said) as caught:
        ask(traced, sql)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_a_folder_without_tables(tmp_path: Path):
    with pytest.raises(TraceFolderError, match="holds no tables of a trace or sweep"):
        ask(tmp_path, "select 1")


def test_without_duckdb(traced: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    absent: dict[str, Any] = {"duckdb": None}
    monkeypatch.setitem(sys.modules, "duckdb", absent["duckdb"])
    with pytest.raises(QueryError, match=r"pip install 'svdtrace\[query\]'"):
        ask(traced, "select 1")
