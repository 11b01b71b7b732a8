"""The circuit as a graph over heads and token roles (METHOD.md, section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
import pyarrow as pa

OTHER = "other"


def token_labels(prompts: pa.Table) -> dict[int, dict[int, str]]:
    """For each prompt the role of each position; of several roles at one position the last listed wins."""
    return {
        prompt: {position: role for role, position in roles}
        for prompt, roles in zip(prompts["prompt"].to_pylist(), prompts["roles"].to_pylist(), strict=True)
    }


def edge_labels(prompts: pa.Table, edges: pa.Table, column: str = "token") -> list[str | None]:
    """The role of a token of every edge, `None` where it has none."""
    labels = token_labels(prompts)
    return [
        labels[prompt].get(token)
        for prompt, token in zip(edges["prompt"].to_pylist(), edges[column].to_pylist(), strict=True)
    ]


def ours(prompts: pa.Table, edges: pa.Table) -> nx.DiGraph:
    """The graph writer → (reader, role).

    Nodes: heads (`9.6`) and heads at a role (`9.6@end`), or another writer's name. A token without a role is labelled
    `other`. Edge attributes: `prompts` (distinct ones), `weight` (mean over its occurrences), `total`, `share` (mean),
    and where the edges have a stability, its mean.

    Args:
        prompts, edges: the tables of a trace.
    """
    return _counted(edges, [label or OTHER for label in edge_labels(prompts, edges)])


def heads(edges: pa.Table) -> nx.DiGraph:
    """The graph writer → reader, whatever the token; attributes as in `ours`.

    Args:
        edges: a trace's table.
    """
    return _counted(edges, None)


def _counted(edges: pa.Table, roles: Sequence[str] | None) -> nx.DiGraph:
    """Edges counted together by writer, reader and, where roles are given, the role of the token."""
    means = [name for name in ("share", "stability") if name in edges.column_names]
    asked = [("prompt", "count_distinct"), ("weight", "mean"), ("weight", "sum"), *((name, "mean") for name in means)]
    rows = edges.select(["writer", "layer", "head", "prompt"])
    for name in ("weight", *means):
        rows = rows.append_column(name, edges[name].cast(pa.float64()))
    keys = ["writer", "layer", "head"]
    if roles is not None:
        rows, keys = rows.append_column("role", pa.array(roles, pa.string())), [*keys, "role"]
    graph = nx.DiGraph()
    # One thread: groups in the order of their first rows, sums in the order of all.
    for group in rows.group_by(keys, use_threads=False).aggregate(asked).to_pylist():
        writer, reader = group["writer"], f"{group['layer']}.{group['head']}"
        target = reader if roles is None else f"{reader}@{group['role']}"
        for name in (writer, reader):
            graph.add_node(name, **_head_attributes(name))
        if roles is not None:
            graph.add_node(target, **_head_attributes(reader), role=group["role"])
        graph.add_edge(
            writer,
            target,
            prompts=group["prompt_count_distinct"],
            weight=group["weight_mean"],
            total=group["weight_sum"],
            **{name: group[f"{name}_mean"] for name in means if group[f"{name}_mean"] is not None},
        )
    return graph


def _head_attributes(name: str) -> Mapping[str, object]:
    layer, _, head = name.partition(".")
    return {"layer": int(layer), "head": int(head)} if layer.isdigit() else {"writer": name}
