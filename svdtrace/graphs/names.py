"""What a node's name says, in our graphs (`9.6@end`, `mlp.3@IO`, `9.6`) and in the published form (`(9, 6, 'end')`)."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from svdtrace.prompts.edge_names import writer_layer

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class NodeName:
    """`writer`: the head or other writer, `9.6`; its layer, -1 for the input; the role of a token, where it has one."""

    writer: str
    layer: int
    role: str | None


@cache
def node_name(name: str) -> NodeName:
    """Read a node's name.

    Example:
        >>> node_name("9.6@end"), node_name("(9, 6, 'end')") == node_name("9.6@end")
        (NodeName(writer='9.6', layer=9, role='end'), True)
    """
    if is_published(name):
        layer, head, *role = ast.literal_eval(name)
        return NodeName(f"{layer}.{head}", layer, role[0] if role else None)
    writer, at, role = name.partition("@")
    return NodeName(writer, writer_layer(writer), role if at else None)


def in_our_form(name: str) -> str:
    """A node's name in our form: `9.6` or `9.6@end`."""
    node = node_name(name)
    return node.writer if node.role is None else f"{node.writer}@{node.role}"


def is_published(name: str) -> bool:
    """Whether a node's name is in the published form."""
    return name.startswith("(")


def is_tie(writer: str) -> bool:
    """Whether an edge that leaves this node ties a (reader, role) to its head, as the published graphs have them."""
    return is_published(writer) and node_name(writer).role is not None


def token_role(writer: str, reader: str) -> str | None:
    """The role of the token at which an edge's writer wrote: its own node's, in the published form the reader's."""
    return node_name(reader if is_published(reader) else writer).role


def edges_of(graph: nx.DiGraph) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    """Writer, reader, side and attributes of every edge that somebody wrote, ties left out; published graphs have no
    sides as keys.
    """
    if graph.is_multigraph():
        return list(cast("nx.MultiDiGraph", graph).edges(keys=True, data=True))
    return [(writer, reader, None, each) for writer, reader, each in graph.edges(data=True) if not is_tie(writer)]
