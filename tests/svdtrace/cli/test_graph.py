"""`svdtrace graph`: which parts of a trace become a graph, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import networkx as nx
import pytest

import svdtrace
from svdtrace.cli import main
from svdtrace.graphs import formats
from svdtrace.graphs.names import is_tie, node_name


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["graph", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["graph", *arguments]) == 2
    assert not [path for path in Path().iterdir() if path.name != "other"], "nothing is written"
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


def test_parts_of_it(capsys: pytest.CaptureFixture[str], traced: Path):
    whole = svdtrace.read(traced).graph()
    largest = sorted(abs(each["weight"]) for *_, each in whole.edges(data=True))[-3]
    held = told(capsys, str(traced), "--weight-min", repr(largest), "--out", "strong.json")
    assert held["edges"] == 3
    assert held["nodes"] == len(formats.read("strong.json"))
    strongest = held["strongest_edges"][0]
    assert strongest["weight"] == whole.edges[strongest["writer"], strongest["reader"], strongest["side"]]["weight"]
    prompt = str(svdtrace.read(traced).edges["prompt"][0])
    one = told(capsys, str(traced), "--prompt", prompt, "--out", "one.json", "--out", "one.attribution.json")
    assert {each["prompts"] for *_, each in formats.read("one.json").edges(data=True)} == {1}
    assert json.loads(Path("one.attribution.json").read_text())["metadata"]["slug"].endswith(f"-prompt-{prompt}")
    heads = told(capsys, str(traced), "--heads", "--out", "heads.dot")
    assert heads["nodes"] == len({node_name(name).writer for name in whole})
    assert one["edges"] < told(capsys, str(traced), "--out", "all.json")["edges"]


def test_one_prompt_in_the_published_form(capsys: pytest.CaptureFixture[str], traced: Path):
    prompt = svdtrace.read(traced).edges["prompt"][0].as_py()
    told(capsys, str(traced), "--paper", "--prompt", str(prompt), "--out", "one.json")
    one = formats.read("one.json")
    assert {each["prompt"] for *_, each in one.edges(data=True)} == {prompt}
    assert all(each["count"] == 1 for writer, _, each in one.edges(data=True) if not is_tie(writer))
    firings = svdtrace.read(traced).manifest["counts"]["firings_per_head"]
    told(capsys, str(traced), "--paper", "--firings-min", "5", "--layer-min", "2", "--out", "top.json")
    top = formats.read("top.json")
    assert all(each["nfiring"] >= 5 and node_name(name).layer >= 2 for name, each in top.nodes(data=True))
    assert all(each["nfiring"] == firings.get(node_name(name).writer, 0) for name, each in top.nodes(data=True))


def test_communities_are_told(capsys: pytest.CaptureFixture[str], traced: Path):
    held = told(capsys, str(traced), "--communities", "--out", "graph.svg", "--out", "graph.graphml")
    numbers = {node_name(name).writer: each for name, each in nx.read_graphml("graph.graphml").nodes(data="community")}
    assert numbers == {head: place for place, part in enumerate(held["communities"], 1) for head in part}
    assert -0.5 <= held["modularity"] <= 1
    assert main(["graph", str(traced), "--communities"]) == 0
    assert f"Community 1: {', '.join(held['communities'][0])}" in capsys.readouterr().out


def test_a_difference_says_what_else_differs(capsys: pytest.CaptureFixture[str], traced: Path):
    same = told(capsys, str(traced), "--against", str(traced), "--out", "same.json")
    assert same["settings_that_differ"] == []
    assert {edge["weight"] for edge in same["strongest_edges"]} == {0.0}
    shutil.copytree(traced, "other")
    manifest = json.loads(Path("other/manifest.json").read_text())
    manifest["config"]["tau"] = 0.9
    Path("other/manifest.json").write_text(json.dumps(manifest))
    assert main(["graph", str(traced), "--against", "other", "--heads", "--out", "two.svg"]) == 0
    assert "The two traces differ in tau too" in capsys.readouterr().out


def test_what_is_refused(capsys: pytest.CaptureFixture[str], traced: Path):
    folder = str(traced)
    assert refused(capsys, folder, "--out", "a.attribution.json").endswith("name it with --prompt N")
    assert refused(capsys, folder, "--prompt", "7").endswith("no such prompt; it has 3, numbered from 0 to 2")
    assert "leave out --heads" in refused(capsys, folder, "--paper", "--heads")
    assert "no edge has a role" in refused(capsys, folder, "--heads", "--roles", "end")
    assert refused(capsys, folder, "--links-max", "0") == "--links-max is 0; give 1 or more"
    empty = next(each for each in range(3) if each not in svdtrace.read(traced).edges["prompt"].to_pylist())
    outs = ["--out", "a.json", "--out", "a.attribution.json"]
    assert f"prompt {empty} has no edges to show" in refused(capsys, folder, "--prompt", str(empty), *outs)
    assert "no edge of this trace has a stability" in refused(capsys, folder, "--stability-min", "0.5")


@pytest.mark.parametrize("second", ["b.txt", "TRACED", "full", "file/b.svg"])
def test_one_place_refused_is_all_refused(
    traced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    for name in ("full/mine.txt", "file"):
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    other = str(traced) if second == "TRACED" else second
    assert main(["graph", str(traced), "--out", "a.svg", "--out", other]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert sorted(tmp_path.rglob("*")) == before
