"""What one trace's circuit has over another's, as a task's over ordinary text."""

from __future__ import annotations

from typing import Any

import networkx as nx


def difference(here: nx.MultiDiGraph, there: nx.MultiDiGraph, prompts_here: int, prompts_there: int) -> nx.MultiDiGraph:
    """Compare two graphs of ours edge by edge, per prompt, since traces differ in how many prompts they have.

    Args:
        here, there: graphs counted in the same way.
        prompts_here, prompts_there: how many prompts each trace has.

    Returns:
        All edges of both, with `side`, `here` and `there` (total weight / prompts of the trace), `weight` = `total` =
        `here` − `there`, and the prompts that have it: `prompts_here`, `prompts_there`, `prompts` the larger of the
        two. Nodes are those of both.
    """
    compared = nx.MultiDiGraph()
    for graph in (here, there):
        compared.add_nodes_from(graph.nodes(data=True))
    for graph in (here, there):
        for edge in graph.edges(keys=True):
            if not compared.has_edge(*edge):
                ends = [_per_prompt(each, edge, n) for each, n in ((here, prompts_here), (there, prompts_there))]
                writer, reader, side = edge
                compared.add_edge(writer, reader, key=side, side=side, **_compared(*ends))
    return compared


def _per_prompt(graph: nx.MultiDiGraph, edge: tuple[str, str, str], prompts: int) -> tuple[float, int]:
    each = graph.get_edge_data(*edge)
    return (each["total"] / prompts, each["prompts"]) if each else (0.0, 0)


def _compared(here: tuple[float, int], there: tuple[float, int]) -> dict[str, Any]:
    over = here[0] - there[0]
    return {
        "weight": over,
        "total": over,
        "here": here[0],
        "there": there[0],
        "prompts": max(here[1], there[1]),
        "prompts_here": here[1],
        "prompts_there": there[1],
    }
