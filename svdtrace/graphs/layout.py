"""Where a graph's nodes stand: layers upwards, roles side by side in reading order, the output above all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from svdtrace.graphs.names import node_name
from svdtrace.pictures.layers import Layered, Node, Place, placed
from svdtrace.prompts.edge_names import OUTPUT
from svdtrace.results.circuit_graph import OTHER


def role_columns(names: Iterable[str], roles: Sequence[str] = ()) -> list[str]:
    """The roles that nodes have, in the order of their columns.

    Args:
        names: of nodes, whose order decides; a node without a role counts as `other`.
        roles: those that come first, whether nodes have them or not.
    """
    return list(dict.fromkeys([*roles, *(node_name(name).role or OTHER for name in names if name != OUTPUT)]))


def laid_out(
    links: Sequence[tuple[str, str]], columns: Sequence[str], alone: Iterable[str] = ()
) -> tuple[Layered, dict[str, Node]]:
    """Place the nodes of a graph; the output stands in the column that most of its links come from.

    Args:
        links: names of writer and reader.
        columns: the roles of all nodes, see `role_columns`.
        alone: names of further nodes, linked or not.

    Returns:
        The places with their columns and rows, and each node by its name in the graph.
    """
    number = {role: place for place, role in enumerate(columns)}
    into_output = Counter(number[node_name(writer).role or OTHER] for writer, reader in links if reader == OUTPUT)
    home = max(into_output, key=lambda column: (into_output[column], -column), default=0)

    def place(name: str) -> Place:
        if name == OUTPUT:
            return name, home
        node = node_name(name)
        return node.writer, number[node.role or OTHER]

    names = list(dict.fromkeys([*(end for link in links for end in link), *alone]))
    where = {name: place(name) for name in names}
    places = placed([(where[writer], where[reader]) for writer, reader in links], list(where.values()))
    return places, {name: places.nodes[where[name]] for name in names}
