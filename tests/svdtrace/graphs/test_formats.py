"""Graphs as files: nothing is lost, and each form is one that its readers understand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from made_up_trace import made_up_trace

from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.graphs import formats
from svdtrace.graphs.communities import communities, marked
from svdtrace.graphs.difference import difference
from svdtrace.graphs.figures import graph_picture
from svdtrace.pictures.style import DEST, SRC
from svdtrace.results import circuit_graph

PLAIN = made_up_trace()
AWKWARD = made_up_trace(injected=True, seed=1)


def graphs() -> dict[str, nx.DiGraph]:
    ours = circuit_graph.ours([PLAIN])
    awkward = circuit_graph.ours([AWKWARD])
    awkward.add_edge('a "quoted" \\ name\\', "1.0@\nb", weight=1e-300, prompts=1, total=-2.5)
    return {
        "ours": ours,
        "communities": marked(ours, communities(ours)),
        "difference": difference(ours, awkward, 12, 12),
        "awkward": awkward,
        "empty": nx.DiGraph(),
    }


def content(of: nx.DiGraph) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    return dict(of.nodes(data=True)), {ends: of.edges[ends] for ends in of.edges}


@pytest.mark.parametrize("name", graphs())
@pytest.mark.parametrize("ending", [".json", ".graphml"])
def test_nothing_is_lost(tmp_path: Path, name: str, ending: str):
    made = graphs()[name]
    formats.write(made, tmp_path / f"graph{ending}")
    assert content(formats.read(tmp_path / f"graph{ending}")) == content(made)


TOKEN = r'"((?:[^"\\]|\\.)*)"'
STATEMENT = re.compile(rf"  {TOKEN}(?: -> {TOKEN})?(?: \[(.*)\])?;")
ATTRIBUTE = re.compile(rf"(\w+)={TOKEN}")


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text)


def read_dot(path: Path) -> tuple[dict[str, dict[str, str]], dict[tuple[str, str], dict[str, str]]]:
    """The statements of a DOT file, read by its grammar: quoted identifiers, attribute lists."""
    first, *lines, last = path.read_text().splitlines()
    assert (first, last) == ("digraph circuit {", "}")
    nodes, edges = {}, {}
    for line in lines[2:]:
        match = STATEMENT.fullmatch(line)
        assert match, line
        attributes = {name: unquoted(value) for name, value in ATTRIBUTE.findall(match[3] or "")}
        if match[2] is None:
            nodes[unquoted(match[1])] = attributes
        else:
            edges[unquoted(match[1]), unquoted(match[2])] = attributes
    return nodes, edges


@pytest.mark.parametrize("name", graphs())
def test_dot_holds_everything(tmp_path: Path, name: str):
    made = graphs()[name]
    formats.write(made, tmp_path / "graph.dot")
    nodes, edges = read_dot(tmp_path / "graph.dot")
    expected = content(made)
    assert nodes == {each: {key: str(value) for key, value in held.items()} for each, held in expected[0].items()}
    widths = {ends: float(held.pop("penwidth")) for ends, held in edges.items()}
    assert edges == {ends: {key: str(value) for key, value in held.items()} for ends, held in expected[1].items()}
    assert all(0.5 <= width <= 4.5 for width in widths.values())
    if widths:
        assert widths[max(widths, key=lambda ends: abs(made.edges[ends]["total"]))] == 4.5


@pytest.mark.parametrize("name", graphs())
def test_graphml_declares_each_attribute_once(tmp_path: Path, name: str):
    """Gephi and Cytoscape make a column of every key: two of one name, or one without a type, are refused or lost."""
    formats.write(graphs()[name], tmp_path / "graph.graphml")
    space = {"g": "http://graphml.graphdrawing.org/xmlns"}
    root = ET.parse(tmp_path / "graph.graphml").getroot()
    keys = [(key.get("for"), key.get("attr.name")) for key in root.findall("g:key", space)]
    assert len(set(keys)) == len(keys)
    assert all(
        key.get("attr.type") in {"boolean", "int", "long", "float", "double", "string"}
        for key in root.findall("g:key", space)
    )
    assert root.find("g:graph", space).get("edgedefault") == "directed"
    ids = {node.get("id") for node in root.iterfind(".//g:node", space)}
    assert {edge.get(end) for edge in root.iterfind(".//g:edge", space) for end in ("source", "target")} <= ids


def test_other_endings_and_places(tmp_path: Path):
    with pytest.raises(OutputError, match=r"no graph format is named '\.gexf'; end the name in one of \.json, "):
        formats.write(nx.DiGraph(), tmp_path / "graph.gexf")
    with pytest.raises(OutputError, match="cannot be written"):
        formats.write(nx.DiGraph(), tmp_path / "none" / "graph.dot")
    (tmp_path / "graph.json").write_text("{}")
    with pytest.raises(TraceFolderError, match="holds no graph"):
        formats.read(tmp_path / "graph.json")


@pytest.mark.parametrize("name", ["communities", "difference", "empty"])
def test_pictures(tmp_path: Path, name: str):
    made = graphs()[name]
    graph_picture(made, tmp_path / "graph.svg")
    graph_picture(made, tmp_path / "again.svg")
    text = (tmp_path / "graph.svg").read_text()
    assert text == (tmp_path / "again.svg").read_text()
    fills = {"communities": "#cfe3f1", "difference": "#d55e00", "empty": "<svg"}
    assert fills[name] in text
    graph_picture(made, tmp_path / "graph.png", strongest=3)
    assert (tmp_path / "graph.png").read_bytes()[:4] == b"\x89PNG"


def test_a_difference_has_a_colour_for_each_sign(tmp_path: Path):
    here = circuit_graph.heads([replace(PLAIN, edges=PLAIN.edges.slice(0, 60))])
    there = circuit_graph.heads([replace(PLAIN, edges=PLAIN.edges.slice(60, 200))])
    drawn = {}
    for name, ends in (("one", (here, there, 3, 9)), ("other", (there, here, 9, 3))):
        graph_picture(difference(*ends), tmp_path / f"{name}.svg")
        text = (tmp_path / f"{name}.svg").read_text()
        drawn[name] = [text.count(f"stroke: {colour}") for colour in (DEST, SRC)]
    # The same links, each in the other colour.
    assert drawn["one"] == drawn["other"][::-1]
    assert drawn["one"][0] != drawn["one"][1]
    assert min(drawn["one"]) > 2, "more than the legend's own line"
