"""The closing table of a trace: strongest edges, firings per head, size of slices, seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from svdtrace.cli.evidence import evidence, lines
from svdtrace.cli.terminal import counted, table
from svdtrace.graphs.names import edges_of, in_our_form
from svdtrace.output.seconds import spent
from svdtrace.prompts.edge_names import OUTPUT
from svdtrace.results.emptiness import why_empty
from svdtrace.tracing.finite import NONE, left_out
from svdtrace.tracing.rounding import ROUNDING, sentence

if TYPE_CHECKING:
    import networkx as nx

    from svdtrace.tracing.trace import Trace

STRONGEST = 10
PUBLISHED_SIDES = {"d": "dest", "s": "src"}


def summary(trace: Trace) -> dict[str, Any]:
    """What the closing table says, as plain values."""
    size = trace.firings["size"].to_numpy()
    manifest = trace.manifest
    return {
        "prompts": manifest["prompts"]["count"],
        "firings": trace.firings.num_rows,
        "firings_in_all": sum(manifest["counts"].get("firings_per_head", {}).values()),
        "traced_from": manifest["config"]["roots"],
        "edges": trace.edges.num_rows,
        "mean_slice": round(float(size.mean()), 3) if len(size) else None,
        "d_head": manifest["model"]["d_head"],
        "near_ties": manifest["near_ties"],
        "not_finite": manifest.get("not_finite", NONE),
        "firings_per_head": firings_per_head(trace),
        "strongest_edges": strongest(trace.graph()),
        "why_empty": why_empty(manifest),
        "seconds": manifest["seconds"],
        **({ROUNDING: manifest[ROUNDING]} if ROUNDING in manifest else {}),
        **evidence(manifest),
    }


def firings_per_head(trace: Trace) -> dict[str, dict[str, float]]:
    """For each head with rows in the table: firings and mean |S|, most firings first."""
    layer, head, size = (trace.firings[name].to_numpy() for name in ("layer", "head", "size"))
    pairs, of_pair, counts = np.unique(np.stack([layer, head]), axis=1, return_inverse=True, return_counts=True)
    sizes = np.bincount(of_pair.reshape(-1), weights=size, minlength=pairs.shape[1])
    order = np.argsort(-counts, kind="stable")
    return {
        f"{pairs[0, place]}.{pairs[1, place]}": {
            "firings": int(counts[place]),
            "mean_slice": round(float(sizes[place] / counts[place]), 3),
        }
        for place in order
    }


def strongest(
    graph: nx.DiGraph, count: int = STRONGEST, size: Callable[[float], float] = float
) -> list[dict[str, Any]]:
    """The edges of a circuit with the largest total weight, or the largest `size` of it: both nodes, side, attributes.

    Edges into the output weigh in another unit and are not among them.
    """
    edges = [edge for edge in edges_of(graph) if edge[1] != OUTPUT]
    edges.sort(key=lambda edge: -size(edge[3]["total"]))
    return [{"writer": writer, "reader": reader, **attributes} for writer, reader, _, attributes in edges[:count]]


def strongest_edge(trace: Trace) -> str | None:
    """What `svdtrace why` takes for the edge with the largest weight from a head, else from any writer."""
    edges = trace.edges
    if not edges.num_rows:
        return None
    weight = edges["weight"].to_numpy()
    from_head = edges["writer_head"].is_valid().to_numpy(zero_copy_only=False)
    best = int(np.argmax(np.where(from_head, weight, -np.inf) if from_head.any() else weight))
    named = "--prompt {prompt} --edge {writer}:{layer}.{head}@{dest}:{src}/{side}"
    return named.format(**edges.slice(best, 1).to_pylist()[0])


def show(console: Console, content: dict[str, Any]) -> None:
    """Print what `summary` says."""
    console.print(edges_table(content["strongest_edges"]))
    heads = list(content["firings_per_head"].items())
    rows = [(name, each["firings"], f"{each['mean_slice']:.2f}") for name, each in heads[:STRONGEST]]
    more = f", the first {STRONGEST} of {len(heads)} heads" if len(heads) > STRONGEST else ""
    console.print(table(f"Firings per head{more}", ("head", "firings", "mean |S|"), rows, left=("head",)))
    mean = (
        "no slices" if content["mean_slice"] is None else f"mean |S| {content['mean_slice']:.2f} of {content['d_head']}"
    )
    console.print(
        f"{counted(content['prompts'], 'prompt')}, {counted(content['firings'], 'firing')}, "
        f"{counted(content['edges'], 'edge')}, {mean}; {counted(content['near_ties']['pairs'], 'pair')} near the "
        f"threshold, {counted(content['near_ties']['firings'], 'firing')} and "
        f"{counted(content['near_ties']['edges'], 'edge')} near a tie; {spent(content['seconds'])}"
    )
    if (unusable := left_out(content["not_finite"])) is not None:
        console.print(unusable)
    if content["why_empty"]:
        console.print(content["why_empty"])
    elif content["firings"] < content["firings_in_all"]:
        in_all = counted(content["firings_in_all"], "firing")
        console.print(f"Of {in_all} in all, {content['firings']:,} are roots or lead to one")
    if ROUNDING in content:
        console.print(sentence(content[ROUNDING], content["prompts"]))
    for line in lines(content):
        console.print(line)


def edges_table(edges: list[dict[str, Any]], title: str = "Strongest edges") -> Any:
    """The edges of a circuit as a table to print."""
    rows = [
        (
            in_our_form(edge["writer"]),
            in_our_form(edge["reader"]),
            edge["side"] if "side" in edge else PUBLISHED_SIDES[edge["type"]],
            edge.get("prompts", edge.get("count", "")),
            f"{edge['weight']:.3f}",
            f"{edge['total']:.4g}",
        )
        for edge in edges
    ]
    # The published graphs count meetings, not prompts.
    times = "count" if any("count" in edge for edge in edges) else "prompts"
    columns = ("writer", "reader", "side", times, "mean weight", "total")
    return table(title, columns, rows, left=("writer", "reader", "side"))
