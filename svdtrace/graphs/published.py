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


def published_form(trace: Trace, prompt: int | None = None) -> nx.DiGraph:
    """The graph of a trace, or of one prompt of it, as `svdtrace.paper_graph.paper_graph` counts it."""
    names = ("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab")
    shape = {name: trace.manifest["model"][name] for name in names}
    prompts = [
        Prompt(row["id"], tuple(row["tokens"]), tuple(row["strings"]), dict(row["roles"]))
        for row in trace.prompts.to_pylist()
    ]
    roots = parse_roots(trace.manifest["config"]["roots"], GPT2Config(**shape, d_mlp=4 * shape["d_model"]), prompts)
    counts = {
        (int(layer), int(head)): count
        for name, count in trace.manifest["counts"]["firings_per_head"].items()
        for layer, head in [name.split(".")]
    }
    parts = prompt_firings(trace.prompts, trace.firings, trace.edges, roots)
    return paper_graph([each for each in parts if prompt in (None, each.prompt)], counts)
