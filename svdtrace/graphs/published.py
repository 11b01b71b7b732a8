"""A trace's graph in the published way of counting (METHOD.md, section 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import networkx as nx

from gpt2jax.config import GPT2Config
from svdtrace.in_parts import InParts
from svdtrace.paper_graph import PromptFirings, paper_graph, prompt_firings
from svdtrace.roots import Root, roots_among


def published_form(trace: InParts, prompt: int | None = None, roots: str | None = None) -> nx.DiGraph:
    """The graph of a trace as `svdtrace.paper_graph.paper_graph` counts it.

    Args:
        trace: any, or a sweep's parts.
        prompt: the number of the only prompt to count; all by default.
        roots: where to start, in a trace of all firings; by default where the trace did.
    """
    start = trace.manifest["config"]["roots"] if roots is None else roots
    counts = {
        (int(layer), int(head)): count
        for name, count in trace.manifest["counts"]["firings_per_head"].items()
        for layer, head in [name.split(".")]
    }
    return paper_graph(_counted(trace, _parsed(trace, start), prompt), counts)


def _parsed(trace: InParts, text: str) -> tuple[Root, ...]:
    """The roots, held against the model's shape and what the prompts of all parts have."""
    names = ("n_layers", "n_heads", "d_model", "n_ctx", "d_vocab")
    shape = {name: trace.manifest["model"][name] for name in names}
    roles: set[str] = set()
    longest = 0
    for part in trace.parts():
        roles.update(role for each in part.prompts["roles"].to_pylist() for role, _ in each)
        longest = max([longest, *map(len, part.prompts["tokens"].to_pylist())])
    return roots_among(text, GPT2Config(**shape, d_mlp=4 * shape["d_model"]), roles, longest)


def _counted(trace: InParts, roots: Sequence[Root], prompt: int | None) -> Iterator[PromptFirings]:
    """The prompts that are counted, one after another."""
    for part in trace.parts():
        for each in prompt_firings(part.prompts, part.firings, part.edges, roots):
            if prompt in (None, each.prompt):
                yield each
