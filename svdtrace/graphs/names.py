"""What a node's name says, in our graphs (`9.6`, `9.6@end`, `mlp.3`) and in the published form (`(9, 6, 'end')`)."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache

from svdtrace.prompts.edge_names import writer_layer


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
    if name.startswith("("):
        layer, head, *role = ast.literal_eval(name)
        return NodeName(f"{layer}.{head}", layer, role[0] if role else None)
    writer, at, role = name.partition("@")
    return NodeName(writer, writer_layer(writer), role if at else None)


def in_our_form(name: str) -> str:
    """A node's name in our form: `9.6` or `9.6@end`."""
    node = node_name(name)
    return node.writer if node.role is None else f"{node.writer}@{node.role}"


def is_tie(writer: str) -> bool:
    """Whether an edge that leaves this node ties a (reader, role) to its head, as the published graphs have them."""
    return node_name(writer).role is not None
