"""Graphs as files: node-link JSON (as d3 and networkx have it), GraphML (Gephi, Cytoscape, yEd), DOT (Graphviz).

Names and roles that hold characters which a form cannot are written escaped (`svdtrace.output.characters`); `read` puts
them back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import networkx as nx
from networkx.readwrite.graphml import GraphMLWriter

from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.graphs.layout import laid_out, role_columns
from svdtrace.graphs.names import edges_of
from svdtrace.output.characters import escaped, unescaped
from svdtrace.pictures.colours import FILLS, INK, PALE, SIDE_COLOURS, SOFT
from svdtrace.prompts.edge_names import OUTPUT
from svdtrace.results.shown_graph import CircuitGraph
from svdtrace.surroundings.paths import path_of

PARALLEL = "multigraph"
"""The attribute of a graph in GraphML that says that edges have keys, even where no two are parallel."""
NODE_LOOKS = ("label", "x", "y", "size", "r", "g", "b")
EDGE_LOOKS = ("key", "r", "g", "b")
"""What GraphML has besides a graph's own attributes: its key where an edge has one, and how Gephi is to show it."""
SMALLEST, LARGEST = 6.0, 24.0
"""Sizes of nodes in Gephi, by the weight of all their edges."""


def write(graph: nx.DiGraph, path: str | Path) -> None:
    """Write a graph in the form that the name's ending says: `.json`, `.graphml` or `.dot`.

    In GraphML the nodes of our graphs have besides their own attributes a `label`, places `x`, `y` (layers upwards,
    roles side by side), `size` and colour (`r`, `g`, `b`: heads, other writers, the output, or communities), and edges
    their `key` and the colour of their side, by the names that Gephi knows these by.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    path = path_of(path)
    if path.suffix not in WRITERS:
        endings = ", ".join(WRITERS)
        raise OutputError(f"{path}: no graph format is named {path.suffix!r}; end the name in one of {endings}")
    try:
        WRITERS[path.suffix](graph, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another place") from None


def read(path: str | Path) -> nx.MultiDiGraph | nx.DiGraph:
    """Read what `write` wrote as JSON or GraphML: our graphs, whose edges have their side as key, or published ones.

    Raises:
        TraceFolderError: no such file, or no graph in it.
    """
    path = path_of(path)
    try:
        if path.suffix == ".json":
            graph = nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
        else:
            graph = _read_graphml(path)
        return CircuitGraph(graph) if graph.is_multigraph() else graph
    except (OSError, RecursionError, ValueError, KeyError, TypeError, ParseError, nx.NetworkXError) as error:
        raise TraceFolderError(f"{path}: holds no graph ({error}); write it anew with svdtrace graph") from None


def _write_json(graph: nx.DiGraph, path: Path) -> None:
    text = json.dumps(nx.node_link_data(graph, edges="edges"), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_graphml(graph: nx.DiGraph, path: Path) -> None:
    looks, shown = _looks(graph) if graph.is_multigraph() else {}, _translated(graph, escaped)
    for name, look in looks.items():
        shown.nodes[escaped(name)].update(look)
    if graph.is_multigraph():
        shown.graph[PARALLEL] = True
        for _, _, side, each in edges_of(shown):
            each.update(key=side, **_rgb(SIDE_COLOURS.get(side or "", INK)))
    writer = GraphMLWriter(shown, named_key_ids=False)
    # networkx writes keys as ids too, but an id stands once in a file: Gephi leaves out what comes again.
    for edge in writer.xml.iter("edge"):
        edge.attrib.pop("id", None)
    with path.open("wb") as file:
        writer.dump(file)


def _read_graphml(path: Path) -> nx.MultiDiGraph | nx.DiGraph:
    found = nx.read_graphml(path, force_multigraph=True)
    parallel = bool(found.graph.get(PARALLEL, False))
    graph = _translated(found if parallel else nx.DiGraph(found), unescaped)
    graph.graph.clear()
    if parallel:
        for looks, held in ((NODE_LOOKS, graph.nodes(data=True)), (EDGE_LOOKS, graph.edges(data=True))):
            for *_, each in held:
                for name in looks:
                    each.pop(name, None)
    return graph


def _translated(graph: nx.DiGraph, change: Callable[[str], str]) -> nx.DiGraph:
    """The graph with its names and texts changed."""

    def texts(held: Mapping[str, Any]) -> dict[str, Any]:
        return {name: change(value) if isinstance(value, str) else value for name, value in held.items()}

    made = nx.relabel_nodes(graph, {name: change(name) for name in graph})
    for held in (*(each for _, each in made.nodes(data=True)), *(each for *_, each in made.edges(data=True))):
        held.update(texts(held))
    return made


def _looks(graph: nx.DiGraph) -> dict[str, dict[str, Any]]:
    """How Gephi is to show each node."""
    edges = edges_of(graph)
    _, places = laid_out([(writer, reader) for writer, reader, *_ in edges], role_columns(graph), graph)
    strength = dict.fromkeys(graph, 0.0)
    for writer, reader, _, each in edges:
        if reader != OUTPUT:
            strength[writer] += abs(each.get("total", 0.0))
            strength[reader] += abs(each.get("total", 0.0))
    most = max(strength.values(), default=0.0) or 1.0
    return {
        name: {
            "label": escaped(name),
            "x": float(places[name].x),
            "y": float(places[name].y),
            "size": SMALLEST + (LARGEST - SMALLEST) * (strength[name] / most) ** 0.5,
            **_rgb(_colour(name, each)),
        }
        for name, each in graph.nodes(data=True)
    }


def _colour(name: str, attributes: Mapping[str, Any]) -> str:
    if "community" in attributes:
        return FILLS[min(int(attributes["community"]), len(FILLS)) - 1]
    return INK if name == OUTPUT else PALE if "head" in attributes else SOFT


def _rgb(colour: str) -> dict[str, int]:
    return dict(zip("rgb", bytes.fromhex(colour.removeprefix("#")), strict=True))


def _write_dot(graph: nx.DiGraph, path: Path) -> None:
    """Layers go upwards; the larger an edge's total, the thicker its line, those into the output among themselves."""
    edges = list(graph.edges(data=True))
    totals = {id(each): abs(each.get("total", 0.0)) for *_, each in edges_of(graph)}
    largest = {
        into: max((totals.get(id(each), 0.0) for _, reader, each in edges if (reader == OUTPUT) == into), default=0.0)
        for into in (False, True)
    }
    lines = ["digraph circuit {", "  rankdir=BT;", "  node [shape=box, style=rounded];"]
    lines += [f"  {_quoted(name)}{_listed(each.items())};" for name, each in graph.nodes(data=True)]
    for writer, reader, each in edges:
        width = round(0.5 + 4 * totals.get(id(each), 0.0) / (largest[reader == OUTPUT] or 1.0), 3)
        lines.append(f"  {_quoted(writer)} -> {_quoted(reader)}{_listed([*each.items(), ('penwidth', width)])};")
    path.write_text("\n".join([*lines, "}"]) + "\n", encoding="utf-8")


def _listed(attributes: Iterable[tuple[str, Any]]) -> str:
    each = ", ".join(f"{name}={_quoted(value)}" for name, value in attributes)
    return f" [{each}]" if each else ""


def _quoted(value: object) -> str:
    """An identifier of the DOT language. Always in quotes: unquoted, a head's name would be a number."""
    return '"' + escaped(str(value)).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


WRITERS: dict[str, Callable[[nx.DiGraph, Path], None]] = {
    ".json": _write_json,
    ".graphml": _write_graphml,
    ".dot": _write_dot,
}
"""The forms of a graph by the ending of the file."""
