"""The circuit as a graph over heads and token roles (METHOD.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import networkx as nx
import numpy as np
import pyarrow as pa

from svdtrace.results.grouping import Groups, Names, distinct_prompts, grown, integers
from svdtrace.results.in_parts import Tables

OTHER = "other"
MEANS = ("weight", "share", "stability")
"""What is averaged over the occurrences of an edge, where the tables have it and it is defined."""


def token_labels(prompts: pa.Table) -> dict[int, dict[int, str]]:
    """For each prompt the role of each position; of several roles at one position the last listed wins."""
    return {
        prompt: {position: role for role, position in roles}
        for prompt, roles in zip(prompts["prompt"].to_pylist(), prompts["roles"].to_pylist(), strict=True)
    }


def ours(parts: Iterable[Tables]) -> nx.DiGraph:
    """The graph writer → (reader, role).

    Nodes: heads (`9.6`) and heads at a role (`9.6@end`), or another writer's name. A token without a role is labelled
    `other`. Edge attributes: `prompts` (distinct ones), `weight` (mean over its occurrences), `total`, `share` (mean),
    and where the edges have a stability, its mean.

    Args:
        parts: the tables of a trace, or of a sweep part by part.
    """
    counts, names = _Counts(), Names()
    for part in parts:
        counts.add(part.edges, names.of(part.edges["role"].fill_null(OTHER)))
    return counts.graph(names.all())


def heads(parts: Iterable[Tables]) -> nx.DiGraph:
    """The graph writer → reader, whatever the token; attributes as in `ours`.

    Args:
        parts: see `ours`.
    """
    counts = _Counts()
    for part in parts:
        counts.add(part.edges, np.zeros(part.edges.num_rows, int))
    return counts.graph(None)


class _Counts:
    """Edges counted together by writer, reader and the number of the token's role."""

    def __init__(self) -> None:
        self._writers, self._groups = Names(), Groups()
        self._prompts = np.zeros(0, int)
        self._sums = {name: np.zeros(0) for name in MEANS}
        self._counts = {name: np.zeros(0, int) for name in MEANS}

    def add(self, edges: pa.Table, role: np.ndarray) -> None:
        """Count the edges of some more prompts."""
        group = self._groups.of(
            [self._writers.of(edges["writer"]), integers(edges["layer"]), integers(edges["head"]), role]
        )
        many = len(self._groups)
        self._prompts = grown(self._prompts, many) + distinct_prompts(group, integers(edges["prompt"]), many)
        for name in MEANS:
            self._sums[name] = grown(self._sums[name], many)
            self._counts[name] = grown(self._counts[name], many)
            if name in edges.column_names:
                value = np.asarray(edges[name].to_numpy(), float)
                defined = ~np.isnan(value)
                np.add.at(self._sums[name], group[defined], value[defined])
                np.add.at(self._counts[name], group[defined], 1)

    def graph(self, roles: Sequence[str] | None) -> nx.DiGraph:
        """What was counted; without names of roles the readers are heads alone."""
        graph, writers = nx.DiGraph(), self._writers.all()
        for place, (code, layer, head, role) in enumerate(zip(*self._groups.columns(4), strict=True)):
            writer, reader = writers[code], f"{layer}.{head}"
            target = reader if roles is None else f"{reader}@{roles[role]}"
            for name in (writer, reader):
                graph.add_node(name, **_head_attributes(name))
            if roles is not None:
                graph.add_node(target, **_head_attributes(reader), role=roles[role])
            means = {
                name: float(self._sums[name][place] / count) for name in MEANS if (count := self._counts[name][place])
            }
            total = float(self._sums["weight"][place])
            graph.add_edge(
                writer, target, prompts=int(self._prompts[place]), weight=means.pop("weight"), total=total, **means
            )
        return graph


def _head_attributes(name: str) -> Mapping[str, object]:
    layer, _, head = name.partition(".")
    return {"layer": int(layer), "head": int(head)} if layer.isdigit() else {"writer": name}
