"""What strangers' files must not bring about: files elsewhere changed, terminals commanded, pages and graphs broken."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import pyarrow.parquet as pq
import pytest
from made_up_trace import Size, made_up_trace

from hostile.refusals import sound_model
from svdtrace.cli import main
from svdtrace.cli.terminal import console, table
from svdtrace.errors import PathError
from svdtrace.output.locks import held, is_held
from svdtrace.output.staging import BUSY
from svdtrace.output.writing import replaced_folder, result_files, write_manifest
from svdtrace.surroundings.streams import visible
from svdtrace.surroundings.telling import MOST, one_line

MARK = {"version": "0", "command": "decompose"}


@pytest.fixture
def precious(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of somebody else's, outside the folder that is written to."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for name, content in sound_model().items():
        (tmp_path / "model" / name).write_bytes(content)
    (tmp_path / "p.jsonl").write_text('{"tokens": [1, 2, 3]}\n')
    (tmp_path / "precious").mkdir()
    path = tmp_path / "precious" / "thesis.tex"
    path.write_text("precious")
    (tmp_path / "out").mkdir()
    return path


@pytest.mark.parametrize("listed", ["../precious", "../precious/thesis.tex", "{}", ".", "..", 5, None])
def test_a_manifest_names_nothing_outside_its_folder(precious: Path, listed: object):
    """Catches a result's old files being removed by whatever path its manifest gives."""
    name = str(precious) if listed == "{}" else listed
    write_manifest(Path("out"), MARK | {"files": [name, "manifest.json"] if listed is not None else None})
    assert set(result_files(Path("out"))) <= {"manifest.json"}
    assert (
        main(["sweep", "--model", "model", "--prompts", "p.jsonl", "--out", "out", "--quiet", "--roots", "9.9@*:*"])
        == 2
    )
    with replaced_folder("out") as staging:
        write_manifest(staging, {**MARK, "version": "1"})
    assert precious.read_text() == "precious"


@pytest.mark.full
def test_a_sweep_removes_links_and_not_what_they_lead_to(precious: Path):
    write_manifest(Path("out"), MARK | {"files": ["firings", "manifest.json"]})
    Path("out/firings").symlink_to(precious.parent)
    assert main(["sweep", "--model", "model", "--prompts", "p.jsonl", "--out", "out", "--quiet"]) == 0
    assert not Path("out/firings").is_symlink()
    assert [each.name for each in precious.parent.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["edges", "firings", "prompts"])
@pytest.mark.parametrize("mark", [{"command": "sweep"}, {"files": ["manifest.json"]}])
def test_a_sweep_refuses_links_in_the_places_of_its_folders(
    precious: Path, capsys: pytest.CaptureFixture[str], name: str, mark: dict[str, object]
):
    """Catches parts written through a link, and unfinished ones removed behind it; in a sweep that goes on, and in
    what another command left, beside which the link was put.
    """
    (precious.parent / "part-00000.parquet.tmp").write_text("precious")
    write_manifest(Path("out"), MARK | mark)
    Path("out", name).symlink_to(precious.parent)
    assert main(["sweep", "--model", "model", "--prompts", "p.jsonl", "--out", "out", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert f"/out/{name}: is a link" in said
    assert "; put what it leads to in its place" in said
    assert {each.read_text() for each in precious.parent.iterdir()} == {"precious"}
    assert len(list(precious.parent.iterdir())) == 2


@pytest.mark.parametrize("where", [BUSY, ".svdtrace-0123456789ab.lock"])
def test_a_link_in_a_locks_place_leads_nowhere(precious: Path, where: str):
    """Catches a lock that empties the file that its link leads to."""
    place = Path("out") / where
    place.symlink_to(precious)
    assert not is_held(place)
    with pytest.raises(OSError, match="symbolic links"), held(place):
        pass
    assert precious.read_text() == "precious"
    assert place.is_symlink()


def test_a_link_in_a_files_place_is_replaced_and_not_followed(precious: Path):
    traced(made_up_trace(), Path("trace"))
    Path("x.json").symlink_to(precious)
    assert main(["graph", "trace", "--out", "x.json", "--quiet"]) == 0
    assert precious.read_text() == "precious"
    assert not Path("x.json").is_symlink()
    for name in ("graph.json", "manifest.json"):
        Path("out", name).unlink(missing_ok=True)
    write_manifest(Path("out"), MARK)
    Path("out/graph.json").symlink_to(precious)
    assert main(["graph", "trace", "--out", "out", "--quiet"]) == 0
    assert precious.read_text() == "precious"


def traced(trace: object, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("prompts", "firings", "edges"):
        pq.write_table(getattr(trace, name), folder / f"{name}.parquet")
    (folder / "manifest.json").write_text(json.dumps(getattr(trace, "manifest", {})))
    return folder


def test_names_break_neither_graphs_nor_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a role that becomes markup, an element, an attribute, SQL; of pages tests/svdtrace/report tells."""
    monkeypatch.chdir(tmp_path)
    traced(made_up_trace(Size(prompts=4), injected=True), Path("trace"))
    assert main(["graph", "trace", "--out", "x.graphml", "--out", "x.json", "--quiet"]) == 0
    graph, again = nx.read_graphml("x.graphml"), json.loads(Path("x.json").read_text())
    assert len(graph) == len(again["nodes"])
    assert any("<" in node["id"] for node in again["nodes"]), "the names are those that might"
    tags = {each.tag.rpartition("}")[2] for each in ElementTree.parse("x.graphml").iter()}
    assert tags == {"graphml", "key", "graph", "node", "edge", "data"}
    capsys.readouterr()
    assert main(["query", "trace", "select distinct unnest(map_keys(roles)) as role from prompts", "--json"]) == 0
    asked = {row[0] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert any("<" in role for role in asked)


@pytest.mark.parametrize("text", ["\x1b[2J\x1b[31m", "\x9b2J", "\x07\x08\r", "\u202eevil", "a\x00b", "\udc80"])
def test_a_terminal_is_not_commanded(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    shown = visible(text)
    assert shown.isprintable()
    assert visible(f"Ünïcode 漢字 🤗 \t\n{text}") == f"Ünïcode 漢字 🤗 \t\n{shown}"
    terminal = console()
    terminal.print(table("t" + text, ["a"], [[f"b{text}"]]))
    terminal.say(text)
    out = capsys.readouterr().out
    assert all(each.isprintable() or each == "\n" for each in out)
    assert out.count(shown) == 3


def test_a_long_line_keeps_its_place_and_its_way_out():
    line = one_line(PathError(f"file.json: {'x' * 10_000}; correct it"))
    assert (line[:11], line[-12:], len(line) <= MOST + 3) == ("file.json: ", "; correct it", True)
