"""The circuit as a graph over heads and token roles, and its files (METHOD.md, section 8)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa

from svdtrace.errors import OutputError, TraceFolderError

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
    `other`. Edge attributes: `prompts` (distinct ones), `weight` (mean over its occurrences), `total`, `share` (mean).

    Args:
        prompts, edges: the tables of a trace.
    """
    graph = nx.DiGraph()
    rows = edges.num_rows
    if not rows:
        return graph
    roles = np.asarray([label or OTHER for label in edge_labels(prompts, edges)], object)
    columns = {name: edges[name].to_numpy() for name in ("prompt", "writer", "layer", "head", "weight", "share")}
    readers = np.asarray(
        [f"{layer}.{head}" for layer, head in zip(columns["layer"], columns["head"], strict=True)], object
    )
    groups: dict[tuple[str, str, str], list[int]] = {}
    for row, key in enumerate(zip(columns["writer"], readers, roles, strict=True)):
        groups.setdefault(key, []).append(row)
    for (writer, reader, role), members in groups.items():
        _add_head(graph, writer)
        _add_head(graph, reader)
        target = f"{reader}@{role}"
        graph.add_node(target, **_head_attributes(reader), role=role)
        weight, share = columns["weight"][members].astype(float), columns["share"][members].astype(float)
        shares = share[~np.isnan(share)]
        graph.add_edge(
            writer,
            target,
            prompts=len(np.unique(columns["prompt"][members])),
            weight=float(weight.mean()),
            total=float(weight.sum()),
            **({"share": float(shares.mean())} if len(shares) else {}),
        )
    return graph


def write(graph: nx.DiGraph, path: str | Path) -> None:
    """Write a graph as `.json` (node-link form) or `.graphml`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    path = Path(path)
    try:
        if path.suffix == ".json":
            path.write_text(json.dumps(nx.node_link_data(graph, edges="edges"), indent=1) + "\n", encoding="utf-8")
        elif path.suffix == ".graphml":
            nx.write_graphml_xml(graph, path, named_key_ids=False)
        else:
            raise OutputError(f"{path}: no graph format is named {path.suffix!r}; end the name in .json or .graphml")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another place") from None


def read(path: str | Path) -> nx.DiGraph:
    """Read what `write` wrote.

    Raises:
        TraceFolderError: no such file, or no graph in it.
    """
    path = Path(path)
    try:
        if path.suffix == ".json":
            return nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
        return nx.read_graphml(path)
    except (OSError, ValueError, KeyError, nx.NetworkXError) as error:
        raise TraceFolderError(f"{path}: holds no graph ({error}); write it anew with svdtrace graph") from None


def _add_head(graph: nx.DiGraph, name: str) -> None:
    graph.add_node(name, **_head_attributes(name))


def _head_attributes(name: str) -> Mapping[str, object]:
    layer, _, head = name.partition(".")
    return {"layer": int(layer), "head": int(head)} if layer.isdigit() else {"writer": name}
