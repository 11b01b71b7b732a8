"""A trace's graph in the published way of counting (METHOD.md, section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import networkx as nx

from gpt2jax.config import GPT2Config
from svdtrace.paper_graph import paper_graph, prompt_firings
from svdtrace.prompts.prompt import Prompt
from svdtrace.roots import parse_roots

if TYPE_CHECKING:
    from svdtrace.tracing import Trace


def published_form(trace: Trace, prompt: int | None = None, roots: str | None = None) -> nx.DiGraph:
    """The graph of a trace as `svdtrace.paper_graph.paper_graph` counts it.

    Args:
        trace: any.
        prompt: the number of the only prompt to count; all by default.
        roots: where to start, in a trace of all firings; by default where the trace did.
    """
    names = ("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab")
    shape = {name: trace.manifest["model"][name] for name in names}
    prompts = [
        Prompt(row["id"], tuple(row["tokens"]), tuple(row["strings"]), dict(row["roles"]))
        for row in trace.prompts.to_pylist()
    ]
    start = trace.manifest["config"]["roots"] if roots is None else roots
    parsed = parse_roots(start, GPT2Config(**shape, d_mlp=4 * shape["d_model"]), prompts)
    counts = {
        (int(layer), int(head)): count
        for name, count in trace.manifest["counts"]["firings_per_head"].items()
        for layer, head in [name.split(".")]
    }
    parts = prompt_firings(trace.prompts, trace.firings, trace.edges, parsed)
    return paper_graph([each for each in parts if prompt in (None, each.prompt)], counts)
