"""Graphs as files: nothing is lost, and each form is one that its readers understand."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import networkx as nx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_up_trace import made_up_trace

from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.graphs import formats
from svdtrace.graphs.communities import communities, marked
from svdtrace.graphs.difference import difference
from svdtrace.graphs.figures import LESS, MORE, graph_picture
from svdtrace.graphs.names import node_name
from svdtrace.output.characters import escaped, unescaped
from svdtrace.pictures.colours import FILLS, SRC
from svdtrace.pictures.token_roles import role_names
from svdtrace.results import circuit_graph

PLAIN = made_up_trace()
AWKWARD = made_up_trace(injected=True, seed=1)


HOSTILE = (
    'a "quoted" \\ name\\',
    "control \x01\x0b\x1f\x7f\x85 and \r\n\t",
    "no characters \ufffe\uffff, half ones \ud83e \udd17",
    r"like an escape \u0001 \u005cu0001 \\u",
    "<b>&amp;</b> ]]> -- $x_1$ 🤗",
    " spaces ",
)
"""Names that some form cannot hold, or would read as its own."""


NAMES = ("ours", "communities", "difference", "awkward", "published", "empty")


@cache
def graphs() -> dict[str, nx.DiGraph]:
    ours = circuit_graph.ours([PLAIN])
    awkward = circuit_graph.ours([AWKWARD])
    for number, role in enumerate(HOSTILE):
        awkward.add_edge(
            f"0.1@{role}", "1.0@\nb", key="src", side="src", weight=1e-300, prompts=number, total=-2.5, reads=role
        )
    return {
        "ours": ours,
        "communities": marked(ours, communities(ours)),
        "difference": difference(ours, awkward, 12, 12),
        "awkward": awkward,
        "published": published(),
        "empty": nx.MultiDiGraph(),
    }


def test_every_graph_has_its_name():
    assert tuple(graphs()) == NAMES


def published() -> nx.DiGraph:
    """A graph in the published form, whose edges have no keys."""
    made = nx.DiGraph()
    made.add_edge("(1, 0)", "(2, 3, 'IO')", weight=1.5, total=3.0, count=2, type="s")
    made.add_edge("(2, 3, 'IO')", "(2, 3)", weight=2000.0, total=2000.0, count=2, type="s")
    return made


def content(of: nx.DiGraph) -> tuple[dict[str, Any], dict[tuple[str, ...], Any]]:
    return dict(of.nodes(data=True)), {ends: of.edges[ends] for ends in of.edges}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", [".json", ".graphml"])
def test_nothing_is_lost(tmp_path: Path, name: str, ending: str):
    made = graphs()[name]
    formats.write(made, tmp_path / f"graph{ending}")
    again = formats.read(tmp_path / f"graph{ending}")
    assert isinstance(again, type(made))
    assert again.is_multigraph() == made.is_multigraph()
    assert content(again) == content(made)
    assert list(again.edges) == list(made.edges)


@given(role=st.text(st.characters(codec=None, categories=None)))
@example(role="\ufffe\uffff\ud800\r\x00\\u0001")
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_what_a_file_cannot_hold_is_written_out_and_comes_back(role: str):
    """Catches a character that XML or UTF-8 lacks, and two names that become one."""
    held = escaped(role)
    assert unescaped(held) == role
    # XML 1.0's Char, of which Python's parser lets more through than others do.
    allowed = [(0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF), (9, 10)]
    assert all(any(low <= ord(each) <= high for low, high in allowed) for each in held)
    assert ET.fromstring(f"<a>{escape(held)}</a>".encode()).text in (held, None)


TOKEN = r'"((?:[^"\\]|\\.)*)"'
STATEMENT = re.compile(rf"  {TOKEN}(?: -> {TOKEN})?(?: \[(.*)\])?;")
ATTRIBUTE = re.compile(rf"(\w+)={TOKEN}")


def unquoted(text: str) -> str:
    return unescaped(re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text))


def read_dot(path: Path) -> tuple[dict[str, dict[str, str]], list[tuple[str, str, dict[str, str]]]]:
    """The statements of a DOT file, read by its grammar: quoted identifiers, attribute lists."""
    first, *lines, last = path.read_text(encoding="utf-8").split("\n")[:-1]
    assert (first, last) == ("digraph circuit {", "}")
    nodes, edges = {}, []
    for line in lines[2:]:
        match = STATEMENT.fullmatch(line)
        assert match, line
        attributes = {name: unquoted(value) for name, value in ATTRIBUTE.findall(match[3] or "")}
        if match[2] is None:
            nodes[unquoted(match[1])] = attributes
        else:
            edges.append((unquoted(match[1]), unquoted(match[2]), attributes))
    return nodes, edges


@pytest.mark.parametrize("name", NAMES)
def test_dot_holds_everything(tmp_path: Path, name: str):
    made = graphs()[name]
    formats.write(made, tmp_path / "graph.dot")
    nodes, edges = read_dot(tmp_path / "graph.dot")

    def texts(held: dict[str, Any]) -> dict[str, str]:
        return {key: str(value) for key, value in held.items()}

    assert nodes == {each: texts(held) for each, held in made.nodes(data=True)}
    widths = [float(held.pop("penwidth")) for *_, held in edges]
    assert edges == [(*ends, texts(held)) for *ends, held in made.edges(data=True)]
    assert all(0.5 <= width <= 4.5 for width in widths)
    if widths and name != "published":
        totals = [abs(held["total"]) for *_, held in made.edges(data=True)]
        assert widths[totals.index(max(totals))] == 4.5


@pytest.mark.parametrize("name", NAMES)
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
    edges = list(root.iterfind(".//g:edge", space))
    assert {edge.get(end) for edge in edges for end in ("source", "target")} <= ids
    # An id stands once in a file, or not at all.
    assert not any(edge.get("id") for edge in edges)


def test_other_programs_see_layers_and_sides(tmp_path: Path):
    """Catches sides in one, layers that do not rise, roles on top of each other, and what Gephi does not know."""
    made = circuit_graph.ours([PLAIN])
    made.add_edge("4.3@end", "output", key="output", side="output", weight=0.5, prompts=1, total=0.5)
    formats.write(made, tmp_path / "graph.graphml")
    seen = nx.read_graphml(tmp_path / "graph.graphml", force_multigraph=True)
    assert set(seen.edges) == set(made.edges)
    nodes = dict(seen.nodes(data=True))
    assert {name: each["label"] for name, each in nodes.items()} == {name: name for name in made}
    assert all(nodes[writer]["y"] < nodes[reader]["y"] for writer, reader, _ in made.edges)
    by_role: dict[str, list[float]] = {}
    for name, each in nodes.items():
        assert {type(each[look]) for look in ("x", "y", "size")} == {float}
        assert all(0 <= each[look] <= 255 for look in "rgb")
        if name != "output":
            by_role.setdefault(node_name(name).role, []).append(each["x"])
    # Columns side by side, in the order in which the roles are read.
    spans = [(min(x), max(x)) for x in by_role.values()]
    assert all(left[1] < right[0] for left, right in pairwise(spans))
    assert list(by_role) == ["other", *(role for role in role_names([PLAIN]) if role != "other" and role in by_role)]
    assert max(nodes, key=lambda name: nodes[name]["y"]) == "output"
    strength = {name: sum(abs(each["total"]) for *_, each in made.in_edges(name, data=True)) for name in made}
    assert nodes[max(strength, key=strength.__getitem__)]["size"] > formats.SMALLEST


def test_other_endings_and_places(tmp_path: Path):
    with pytest.raises(OutputError, match=r"no graph format is named '\.gexf'; end the name in one of \.json, "):
        formats.write(nx.DiGraph(), tmp_path / "graph.gexf")
    with pytest.raises(OutputError, match="cannot be written"):
        formats.write(nx.DiGraph(), tmp_path / "none" / "graph.dot")
    (tmp_path / "graph.json").write_text("{}")
    with pytest.raises(TraceFolderError, match="holds no graph"):
        formats.read(tmp_path / "graph.json")


@pytest.mark.parametrize("name", ["communities", "difference", "empty", "awkward", "published"])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_pictures(tmp_path: Path, name: str):
    made = graphs()[name]
    graph_picture(made, tmp_path / "graph.svg")
    graph_picture(made, tmp_path / "again.svg")
    text = (tmp_path / "graph.svg").read_text()
    assert text == (tmp_path / "again.svg").read_text()
    fills = {"communities": FILLS[0], "difference": LESS, "empty": "<svg", "awkward": SRC, "published": SRC}
    assert fills[name] in text
    ET.fromstring(text)
    graph_picture(made, tmp_path / "graph.png", strongest=3)
    assert (tmp_path / "graph.png").read_bytes()[:4] == b"\x89PNG"


def test_a_difference_has_a_colour_for_each_sign(tmp_path: Path):
    here = circuit_graph.heads([replace(PLAIN, edges=PLAIN.edges.slice(0, 60))])
    there = circuit_graph.heads([replace(PLAIN, edges=PLAIN.edges.slice(60, 200))])
    drawn = {}
    for name, ends in (("one", (here, there, 3, 9)), ("other", (there, here, 9, 3))):
        graph_picture(difference(*ends), tmp_path / f"{name}.svg")
        text = (tmp_path / f"{name}.svg").read_text()
        drawn[name] = [text.count(f"stroke: {colour}") for colour in (MORE, LESS)]
    # The same links, each in the other colour.
    assert drawn["one"] == drawn["other"][::-1]
    assert drawn["one"][0] != drawn["one"][1]
    assert min(drawn["one"]) > 2, "more than the legend's own line"
