"""Sets of edges of a graph in the published form, as they are written there, and as names of edges.

[('(8, 6)', "(9, 9, 'end')"), ('(8, 6)', "(10, 0, 'end')")]
All incoming edges to (9, 9, 'end') + All incoming edges to (9, 9, 'IO')
All outgoing edges from (7, 9)
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import networkx as nx

from svdtrace.errors import EdgeError
from svdtrace.graphs.names import in_our_form, is_tie, node_name
from svdtrace.prompts.edge_names import EdgeName

Ends = tuple[str, str]
INCOMING, OUTGOING = "All incoming edges to ", "All outgoing edges from "
LISTED = 4
"""Edges that a label lists one by one."""
SIDES = {"d": "dest", "s": "src"}


def edges_named(text: str, graph: nx.DiGraph) -> list[Ends]:
    """The edges of a graph that a description names.

    Raises:
        EdgeError: it describes none, or names one that the graph lacks.
    """
    if text.startswith("["):
        found = [(writer, reader) for writer, reader in ast.literal_eval(text)]
    else:
        found = [ends for part in text.split(" + ") for ends in _around(part, graph)]
    if not found or not all(graph.has_edge(*ends) for ends in found):
        raise EdgeError(f"{text}: names no edges of the graph; name edges that it has")
    return list(dict.fromkeys(found))


def described(edges: Sequence[Ends]) -> str:
    """A list of edges as the published tables write it."""
    return str(list(edges))


def label(text: str) -> str:
    """A description in short: `8.6 → 9.9@end`, `into 9.9@end`, `out of 7.9`."""
    if not text.startswith("["):
        short = text.replace(INCOMING, "into ").replace(OUTGOING, "out of ")
        return re.sub(r"\([^)]*\)", lambda match: in_our_form(match[0]), short)
    edges = [(node_name(writer).writer, in_our_form(reader)) for writer, reader in ast.literal_eval(text)]
    if len(edges) <= LISTED:
        return ", ".join(f"{writer} → {reader}" for writer, reader in edges)
    readers = dict.fromkeys(reader for _, reader in edges)
    return f"{len(edges)} edges into {' and '.join(readers)}"


def name_of(graph: nx.DiGraph, ends: Ends) -> str:
    """An edge's name; its firing's ends are those of the first meeting (METHOD.md, section 10)."""
    each = graph.edges[ends]
    reader = node_name(ends[1])
    layer, head = map(int, reader.writer.split("."))
    roles = str(each["dest_token"]), str(each["src_token"])
    return str(EdgeName(node_name(ends[0]).writer, layer, head, *roles, SIDES[each["type"]]))


def _around(text: str, graph: nx.DiGraph) -> list[Ends]:
    for start, edges in ((INCOMING, graph.in_edges), (OUTGOING, graph.out_edges)):
        if text.startswith(start):
            node = text.removeprefix(start)
            return [ends for ends in (edges(node) if node in graph else ()) if not is_tie(ends[0])]
    raise EdgeError(f"{text}: expected a list of edges, {INCOMING.strip()} NODE or {OUTGOING.strip()} NODE")
