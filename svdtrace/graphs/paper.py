"""The published way of counting a circuit graph, for comparison with its GraphML (METHOD.md, section 8).

The authors walk down from each root, depth first, and meet a firing once for every way that leads to it. Two things
follow from that order: which prompt an edge is met in first (it counts once there, and every time elsewhere), and what
its first meeting looked like. Here every firing is visited once, in the same order, and its number of ways multiplies
what it adds; nothing is walked twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import networkx as nx
import pyarrow as pa

from gpt2jax.config import GPT2Config
from svdtrace.results.circuit_graph import token_labels
from svdtrace.results.in_parts import InParts
from svdtrace.tracing.paths import LARGEST
from svdtrace.tracing.roots import Root, roots_among

HEAD_TIE = 2000.0

Head = tuple[int, int]
Place = tuple[int, int, int, int]
"""(layer, head, dest, src) of a firing in one prompt."""


@dataclass(frozen=True)
class Step:
    """An edge into a firing from a head: who wrote, on which side, at which token, how much."""

    writer: Head
    side: str
    token: int
    weight: float


@dataclass
class PromptFirings:
    """One prompt's firings with their edges from heads; `labels` the role of each position, `roots` in their order."""

    prompt: int
    labels: Mapping[int, str]
    roots: Sequence[Place]
    edges: Mapping[Place, Sequence[Step]]
    firings: Sequence[Place]
    by_destination: dict[tuple[Head, int], list[Place]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for place in sorted(self.firings):
            layer, head, dest, _ = place
            self.by_destination[(layer, head), dest].append(place)

    def below(self, step: Step) -> list[Place]:
        """The firings that an edge leads to."""
        return self.by_destination.get((step.writer, step.token), [])

    def steps(self, place: Place) -> list[Step]:
        """A firing's edges: the source side first, on each side by layer and head."""
        return sorted(self.edges.get(place, ()), key=lambda step: (step.side != "src", step.writer))

    def label(self, position: int) -> str | int:
        """The role of a position, or the position itself."""
        return self.labels.get(position, position)


def paper_graph(prompts: Iterable[PromptFirings], firings_per_head: Mapping[Head, int]) -> nx.DiGraph:
    """The graph with the published nodes, attributes and counts.

    Args:
        prompts: in the order of the input.
        firings_per_head: every head's firings, reached or not (`nfiring`; 0 for a head that is not named).

    Returns:
        Nodes `(9, 6)` and `(9, 6, 'end')`; edges with `weight`, `total`, `count`, `type`, `src_token`, `dest_token` and
        `prompt`, the first prompt that has it.
    """
    graph = nx.DiGraph()
    for prompt in prompts:
        ways, order = _visits(prompt)
        for place in order:
            for step in prompt.steps(place):
                if step.token in prompt.labels:
                    _meet(graph, prompt, place, step, ways[place])
    for node in graph:
        graph.nodes[node]["nfiring"] = firings_per_head.get(graph.nodes[node].pop("reader"), 0)
    return graph


def _visits(prompt: PromptFirings) -> tuple[dict[Place, int], list[Place]]:
    """How often the authors' walk meets each firing, and the order in which it meets them first."""
    order: list[Place] = []
    seen: set[Place] = set()
    # The walk's own stack: firings still to be met, the next one last.
    stack = list(reversed(prompt.roots))
    while stack:
        place = stack.pop()
        if place in seen:
            continue
        seen.add(place)
        order.append(place)
        below = [each for step in prompt.steps(place) for each in prompt.below(step)]
        stack.extend(reversed(below))
    ways = dict.fromkeys(order, 0)
    for root in prompt.roots:
        ways[root] += 1
    for place in sorted(order, reverse=True):
        for step in prompt.steps(place):
            for each in prompt.below(step):
                ways[each] += ways[place]
    return ways, order


def _meet(graph: nx.DiGraph, prompt: PromptFirings, place: Place, step: Step, ways: int) -> None:
    """Count one edge of a firing that is met `ways` times, and the tie of its (reader, role) to its head."""
    layer, head, dest, src = place
    writer, reader, role = str(step.writer), str((layer, head)), str((layer, head, prompt.labels[step.token]))
    graph.add_node(writer, reader=step.writer)
    graph.add_node(role, reader=(layer, head))
    graph.add_node(reader, reader=(layer, head))
    first = {
        "type": "s" if step.side == "src" else "d",
        "src_token": prompt.label(src),
        "dest_token": prompt.label(dest),
        "prompt": prompt.prompt,
    }
    if not graph.has_edge(writer, role):
        graph.add_edge(writer, role, **first, weight=step.weight, total=step.weight, count=1)
        _tie(graph, role, reader, first, 1)
    elif graph.edges[writer, role]["prompt"] != prompt.prompt:
        edge = graph.edges[writer, role]
        edge["count"] += ways
        edge["total"] += step.weight * ways
        edge["weight"] = edge["total"] / edge["count"]
        _tie(graph, role, reader, first, ways)


def _tie(graph: nx.DiGraph, role: str, reader: str, first: Mapping[str, object], ways: int) -> None:
    """Tie a (reader, role) to its head: its count is that of all edges into it, as in the published file."""
    if graph.has_edge(role, reader):
        graph.edges[role, reader]["count"] += ways
    else:
        graph.add_edge(role, reader, **first, weight=HEAD_TIE, total=HEAD_TIE, count=ways)


def prompt_firings(prompts: pa.Table, firings: pa.Table, edges: pa.Table, roots: Sequence[Root]) -> list[PromptFirings]:
    """A trace's tables, prompt by prompt, for `paper_graph`.

    Args:
        roots: the roots that were named, in their order; without any (`all`, `logit`), the firings that paths start at,
            in the order of the table.
    """
    columns = [firings[name].to_pylist() for name in ("prompt", "layer", "head", "dest", "src")]
    places = list(zip(*columns, strict=True))
    steps = _steps_by_firing(edges)
    by_prompt: dict[int, list[Place]] = defaultdict(list)
    for prompt, *place in places:
        by_prompt[prompt].append(tuple(place))
    starts = _named(prompts, by_prompt, roots) if roots else _starts(firings, places, edges)
    return [
        PromptFirings(
            prompt=prompt,
            labels=labels,
            roots=starts.get(prompt, []),
            edges=steps.get(prompt, {}),
            firings=by_prompt.get(prompt, []),
        )
        for prompt, labels in token_labels(prompts).items()
    ]


def _steps_by_firing(edges: pa.Table) -> dict[int, dict[Place, list[Step]]]:
    found: dict[int, dict[Place, list[Step]]] = defaultdict(lambda: defaultdict(list))
    names = ("prompt", "layer", "head", "dest", "src", "writer_layer", "writer_head", "side", "token", "weight")
    for row in zip(*(edges[name].to_pylist() for name in names), strict=True):
        prompt, *place, writer_layer, writer_head, side, token, weight = row
        if writer_head is not None:
            found[prompt][tuple(place)].append(Step((writer_layer, writer_head), side, token, weight))
    return found


def _named(
    prompts: pa.Table, by_prompt: Mapping[int, Sequence[Place]], roots: Sequence[Root]
) -> dict[int, list[Place]]:
    """Each prompt's firings that are roots, in the order of the roots, none twice."""
    roles = {
        prompt: dict(each)
        for prompt, each in zip(prompts["prompt"].to_pylist(), prompts["roles"].to_pylist(), strict=True)
    }
    return {
        prompt: list(
            dict.fromkeys(place for root in roots for place in sorted(places) if root.names(place, roles[prompt]))
        )
        for prompt, places in by_prompt.items()
    }


def _starts(firings: pa.Table, places: Sequence[tuple[int, ...]], edges: pa.Table) -> dict[int, list[Place]]:
    """Firings with more paths than lead to them from above: these are roots themselves."""
    arrived: Counter[tuple[int, ...]] = Counter()
    names = ("prompt", "writer_layer", "writer_head", "token", "paths")
    for prompt, layer, head, token, paths in zip(*(edges[name].to_pylist() for name in names), strict=True):
        arrived[prompt, layer, head, token] += paths
    starts: dict[int, list[Place]] = defaultdict(list)
    for (prompt, layer, head, dest, src), paths in zip(places, firings["paths"].to_pylist(), strict=True):
        if paths > arrived[prompt, layer, head, dest] or paths == LARGEST:
            starts[prompt].append((layer, head, dest, src))
    return starts


def published_form(trace: InParts, prompt: int | None = None, roots: str | None = None) -> nx.DiGraph:
    """The graph of a trace as `paper_graph` counts it.

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
