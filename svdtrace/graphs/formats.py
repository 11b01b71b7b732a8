"""Graphs as files: node-link JSON (as d3 and networkx have it), GraphML (Gephi, Cytoscape, yEd), DOT (Graphviz)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import networkx as nx

from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.graphs.names import is_tie
from svdtrace.surroundings.paths import path_of


def write(graph: nx.DiGraph, path: str | Path) -> None:
    """Write a graph in the form that the name's ending says: `.json`, `.graphml` or `.dot`.

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


def read(path: str | Path) -> nx.DiGraph:
    """Read what `write` wrote as JSON or GraphML.

    Raises:
        TraceFolderError: no such file, or no graph in it.
    """
    path = path_of(path)
    try:
        if path.suffix == ".json":
            return nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
        return nx.read_graphml(path)
    except (OSError, ValueError, KeyError, nx.NetworkXError) as error:
        raise TraceFolderError(f"{path}: holds no graph ({error}); write it anew with svdtrace graph") from None


def _write_json(graph: nx.DiGraph, path: Path) -> None:
    text = json.dumps(nx.node_link_data(graph, edges="edges"), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_graphml(graph: nx.DiGraph, path: Path) -> None:
    nx.write_graphml_xml(graph, path, named_key_ids=False)


def _write_dot(graph: nx.DiGraph, path: Path) -> None:
    """Layers go upwards; the larger an edge's total, the thicker its line."""
    totals = {
        (writer, reader): abs(each.get("total", 0.0))
        for writer, reader, each in graph.edges(data=True)
        if not is_tie(writer)
    }
    largest = max(totals.values(), default=0.0) or 1.0
    lines = ["digraph circuit {", "  rankdir=BT;", "  node [shape=box, style=rounded];"]
    lines += [f"  {_quoted(name)}{_listed(each)};" for name, each in graph.nodes(data=True)]
    for writer, reader, each in graph.edges(data=True):
        width = {"penwidth": round(0.5 + 4 * totals.get((writer, reader), 0.0) / largest, 3)}
        lines.append(f"  {_quoted(writer)} -> {_quoted(reader)}{_listed({**each, **width})};")
    path.write_text("\n".join([*lines, "}"]) + "\n", encoding="utf-8")


def _listed(attributes: Mapping[str, Any]) -> str:
    each = ", ".join(f"{name}={_quoted(value)}" for name, value in attributes.items())
    return f" [{each}]" if each else ""


def _quoted(value: object) -> str:
    """An identifier of the DOT language. Always in quotes: unquoted, a head's name would be a number."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


WRITERS: dict[str, Callable[[nx.DiGraph, Path], None]] = {
    ".json": _write_json,
    ".graphml": _write_graphml,
    ".dot": _write_dot,
}
"""The forms of a graph by the ending of the file."""
