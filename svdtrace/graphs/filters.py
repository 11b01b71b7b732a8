"""A part of a graph: edges that are strong, frequent, stable enough, or at some roles; nodes of upper layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from svdtrace.errors import SettingError
from svdtrace.graphs.names import edges_of, is_tie, node_name, token_role
from svdtrace.prompts.edge_names import OUTPUT

if TYPE_CHECKING:
    import networkx as nx

    Graph = TypeVar("Graph", bound=nx.DiGraph)


@dataclass(frozen=True)
class GraphFilter:
    """Which part of a graph is kept. The published top layers are those of firings_min 66 and layer_min 7."""

    weight_min: float = 0.0
    """Smallest weight of an edge, regardless of its sign."""
    prompts_min: int = 0
    """Fewest prompts that have an edge; with --paper, its smallest count."""
    stability_min: float = 0.0
    """Smallest stability of an edge, 0 to 1, in a trace that has it (METHOD.md, section 13)."""
    roles: str = "all"
    """Roles of the tokens at which writers of kept edges wrote, joined by commas; or all."""
    layer_min: int = -1
    """Lowest layer of a node; -1 is the input (published top layers: 7)."""
    firings_min: int = 0
    """Fewest firings of a node's head, in all the trace (published top layers: 66)."""

    def keeps_edge(self, role: str | None, attributes: Mapping[str, Any]) -> bool:
        """Whether an edge is kept whose writer wrote at a token of this role."""
        return (
            abs(attributes["weight"]) >= self.weight_min
            and attributes.get("prompts", attributes.get("count", 0)) >= self.prompts_min
            and attributes.get("stability", 0.0) >= self.stability_min
            and (self.roles == "all" or role in self.roles.split(","))
        )

    def keeps_node(self, name: str, firings: Mapping[str, int]) -> bool:
        """Whether a node is kept, its head having fired so often; the output is no head and stays."""
        node = node_name(name)
        return name == OUTPUT or (node.layer >= self.layer_min and firings.get(node.writer, 0) >= self.firings_min)


def kept(graph: Graph, rule: GraphFilter, firings: Mapping[str, int]) -> Graph:
    """The part of a graph that a rule keeps, as a graph of its own.

    First edges go, with the nodes that lose all of theirs; then nodes, with their edges. The published ties of a role
    to its head stay as long as an edge leads to the role.

    Args:
        graph: ours or in the published form.
        rule: what to keep.
        firings: how often each head fired, `{"9.6": 257}`; a head that is not named fired never.

    Raises:
        SettingError: stability is asked for, and no edge has it.
    """
    edges = edges_of(graph)
    if rule.stability_min > 0 and not any("stability" in each for *_, each in edges):
        raise SettingError(
            f"stability_min is {rule.stability_min}, but no edge of this trace has a stability; leave it at 0"
        )
    part = graph.copy()
    for writer, reader, side, each in edges:
        if not rule.keeps_edge(token_role(writer, reader), each):
            part.remove_edge(writer, reader, **({} if side is None else {"key": side}))
    untied = [name for name in part if is_tie(name) and not part.in_degree(name)]
    part.remove_nodes_from(untied)
    alone = [name for name in part if not part.degree(name) and graph.degree(name)]
    part.remove_nodes_from(alone)
    part.remove_nodes_from([name for name in part if not rule.keeps_node(name, firings)])
    return part
