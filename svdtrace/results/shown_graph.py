"""A circuit's graph that shows itself in a notebook."""

from __future__ import annotations

import networkx as nx

from gpt2jax.notebook import table

STRONGEST = 10


class CircuitGraph(nx.MultiDiGraph):
    """`networkx.MultiDiGraph`, with a table of its strongest edges where a notebook shows it."""

    def __repr__(self) -> str:
        return f"CircuitGraph({self.number_of_nodes():,} nodes, {self.number_of_edges():,} edges)"

    def _repr_html_(self) -> str:
        edges = sorted(self.edges(data=True, keys=True), key=lambda edge: -abs(edge[3].get("total", 0.0)))
        rows = [
            (writer, reader, side, each.get("prompts"), each.get("weight"), each.get("total"))
            for writer, reader, side, each in edges[:STRONGEST]
        ]
        columns = ("writer", "reader", "side", "prompts", "mean weight", "total")
        return table(columns, rows, repr(self), more=len(edges) - len(rows))
