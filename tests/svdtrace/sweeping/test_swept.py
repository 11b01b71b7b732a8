"""Graph and page of a sweep's folder: those of all its prompts together, from one part at a time."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from equal_tables import BOUND
from sweep_prompts import prompt

import svdtrace
from svdtrace.errors import TraceFolderError
from svdtrace.folders.reading import opened
from svdtrace.graphs.paper import published_form
from svdtrace.report import render
from svdtrace.report.data import PASSES, page_data
from svdtrace.report.numbers import size_of
from svdtrace.results import circuit_graph
from svdtrace.results.in_parts import Watched, columns
from svdtrace.sweeping import parts
from svdtrace.sweeping.swept import PartTables, Swept

PART = 3
CONFIG = svdtrace.TraceConfig(threshold=0.3, roots="1.0@*:*,1.1@*:IO")


# Of the last part none has the first role.
PROMPTS = [prompt(number, *(() if number < 3 * PART else ("end",))) for number in range(10)]


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeps") / "swept"
    svdtrace.sweep(model, PROMPTS, path, CONFIG, part_size=PART)
    return path


def same(one: nx.DiGraph, other: nx.DiGraph) -> bool:
    """Whether two graphs are equal to the last bit, and in the same order."""
    return list(one.nodes(data=True)) == list(other.nodes(data=True)) and list(one.edges(data=True)) == list(
        other.edges(data=True)
    )


@pytest.mark.whole
def test_the_graphs_are_those_of_all_tables_at_once(folder: Path):
    swept, whole = opened(folder), svdtrace.read(folder)
    assert isinstance(swept, Swept)
    assert swept.manifest == whole.manifest
    assert len(list(swept.parts())) == 4
    for count in (circuit_graph.ours, circuit_graph.heads):
        assert same(count(swept.parts()), count(whole.parts()))
        assert count(whole.parts()).number_of_edges() > 5
    for only in (None, 4):
        found = published_form(swept, only)
        assert same(found, published_form(whole, only))
        assert found.number_of_edges()


@pytest.mark.whole
def test_the_graph_is_that_of_a_trace(model: Any, folder: Path):
    trace, swept = svdtrace.trace(model, PROMPTS, CONFIG).graph(), circuit_graph.ours(opened(folder).parts())
    assert set(trace.edges) == set(swept.edges)
    # Other batches, other rounding: within the bound of one contribution, as often as there is one.
    largest = max(abs(each["weight"]) for *_, each in trace.edges(data=True))
    for writer, reader, side, each in trace.edges(keys=True, data=True):
        other = swept.edges[writer, reader, side]
        assert each["prompts"] == other["prompts"]
        count = round(each["total"] / each["weight"]) if each["weight"] else 1
        assert abs(each["weight"] - other["weight"]) <= BOUND * largest
        assert abs(each["total"] - other["total"]) <= BOUND * largest * count


def test_the_page_is_that_of_all_tables_at_once(folder: Path):
    swept, whole = opened(folder), svdtrace.read(folder)
    assert page_data(swept).json == page_data(whole).json
    assert render(swept) == render(whole)
    data = page_data(whole).json
    limit = size_of(data) - len(data["prompts"]) // 2
    assert 0 < page_data(swept, limit=limit).n_shown < len(PROMPTS)
    assert render(swept, limit=limit) == render(whole, limit=limit)


USES: dict[str, Callable[[Any], Any]] = {
    "graph": lambda trace: circuit_graph.ours(trace.parts()),
    "heads": lambda trace: circuit_graph.heads(trace.parts()),
    "published": published_form,
    "page": render,
}


@pytest.mark.parametrize("use", USES)
def test_tables_of_one_part_alone_are_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, use: str):
    alive: dict[int, list[weakref.ref[pa.Table]]] = {number: [] for number in parts.numbers(folder)}
    read, loaded = parts.table, []

    def watched(of: Path, name: str, number: int, *columns: Any) -> pa.Table:
        others = [other for other, tables in alive.items() if other != number and any(each() for each in tables)]
        assert not others, f"part {number} is read while tables of part {others[0]} are held"
        table = read(of, name, number, *columns)
        alive[number].append(weakref.ref(table))
        loaded.append(number)
        return table

    monkeypatch.setattr(parts, "table", watched)
    USES[use](opened(folder))
    assert set(loaded) == set(alive)


def test_parts_that_come_later_are_no_part_of_what_is_counted(model: Any, folder: Path, tmp_path: Path):
    class EnoughError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done.prompts >= 2 * PART:
            raise EnoughError

    with pytest.raises(EnoughError):
        svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, part_size=PART, progress=stop)
    begun = opened(tmp_path / "out")
    before = render(begun)
    svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, part_size=PART)
    assert render(begun) == before
    assert begun.manifest["prompts"]["count"] == 2 * PART
    assert opened(tmp_path / "out").manifest["prompts"]["count"] == len(PROMPTS)


def test_a_damaged_table_is_named(folder: Path, tmp_path: Path, model: Any):
    svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, part_size=PART)
    (tmp_path / "out" / "edges" / "part-00001.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        TraceFolderError, match=r"edges/part-00001\.parquet: cannot be read .* give the sweep's command"
    ):
        render(opened(tmp_path / "out"))


def test_some_columns_are_those_of_the_whole_table(folder: Path, monkeypatch: pytest.MonkeyPatch):
    part = next(iter(opened(folder).parts()))
    whole = next(iter(opened(folder).parts())).edges
    names = ("writer", "role", "weight", "stability")
    monkeypatch.setattr(PartTables, "edges", property(lambda _: pytest.fail("the whole table was read")))
    found = columns(part, "edges", names)
    assert found.column_names == list(names[:3])
    for name in found.column_names:
        assert found[name].to_pylist() == whole[name].to_pylist()


def test_columns_of_a_sweep_that_was_written_without_roles(folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "old")
    for name, lacking in (("edges", ["role"]), ("firings", ["dest_role", "src_role"])):
        for file in (tmp_path / "old" / name).iterdir():
            pq.write_table(pq.read_table(file).drop_columns(lacking), file)
    old, new = (next(iter(opened(each).parts())) for each in (tmp_path / "old", folder))
    for name, wanted in (("edges", ("role", "weight")), ("firings", ("src_role", "dest_role"))):
        found, expected = (columns(each, name, wanted) for each in (old, new))
        for each in wanted:
            assert found[each].to_pylist() == expected[each].to_pylist()


def test_a_watched_sweep_tells_each_part_and_gives_the_same_page(folder: Path):
    told: list[tuple[int, int]] = []
    watched = Watched(opened(folder), lambda part, of: told.append((part, of)))
    assert render(watched) == render(opened(folder))
    assert told == [(part, 4) for _ in range(PASSES) for part in (1, 2, 3, 4)]
