"""The paper's protocol: a trace in its way, the graph in its form, sets of edges taken away.

done = svdtrace.reproduce(model, prompts)
done.rows, done.wanting
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import pyarrow as pa

from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.graphs.names import in_our_form, is_tie
from svdtrace.graphs.paper import published_form
from svdtrace.prompts.prompt import Prompt
from svdtrace.reproduction.asked import Asked, asked_by, published_values
from svdtrace.reproduction.comparison import Key, Measured, Row, compared
from svdtrace.reproduction.edge_sets import described, edges_named, name_of
from svdtrace.reproduction.effect_numbers import effect_numbers
from svdtrace.reproduction.firing_numbers import Firings, firing_numbers, slice_numbers
from svdtrace.reproduction.graph_numbers import edge_numbers, graph_numbers, strongest_edges
from svdtrace.reproduction.nearness import find_near
from svdtrace.reproduction.published import Published, read_published
from svdtrace.results.columns import column
from svdtrace.surroundings.bars import naming, progressing
from svdtrace.tracing.trace import Trace, check_prompts, prepare_cached, trace_prepared

Progress = Callable[[int, int, str], None]
ROOTS_TAKEN, EDGES_TAKEN, STRONGEST = 3, 8, 12
"""Where nothing is published: of how many roots the strongest edges are taken away, how many of each; edges listed."""


@dataclass(frozen=True)
class Reproduction:
    """What the protocol gave.

    `rows`: published beside measured; `applies`: whether the published numbers are of such a model and these prompts,
    `shaped`: whether they are of such a model; `trace` of all
    firings, `graph` in the published form, `effects`: interventions, a row for every set, place and prompt.
    """

    rows: tuple[Row, ...]
    applies: bool
    shaped: bool
    roots: str
    trace: Trace = field(repr=False)
    graph: nx.DiGraph = field(repr=False)
    effects: pa.Table | None = field(repr=False)

    @property
    def wanting(self) -> tuple[Row, ...]:
        """Rows outside of their tolerance."""
        return tuple(row for row in self.rows if row.inside is False)


def reproduce(
    model: Model,
    prompts: Iterable[Prompt],
    published: Published | None = None,
    *,
    find_roots: Callable[[Trace], str],
    progress: Progress | bool | None = None,
) -> Reproduction:
    """Run the paper's protocol on a model.

    Args:
        model: raw or folded.
        prompts: the published 256, or any with the roles that the roots name.
        published: what to compare with, by default what comes with the package.
        find_roots: where to start in a model of another shape, from its trace of all firings; "" for nowhere.
        progress: called with what is done, what there is to do, and what that is. True shows a bar, in a terminal and
            in a notebook.

    Raises:
        PromptError, ModelError, EdgeError: what was given does not go together.
    """
    published = published or read_published()
    prompts = check_prompts(model, prompts)
    shaped = published.applies_to(model.config)
    applies = shaped and published.is_of(prompts)
    settings = published.numbers["settings"]
    chosen = {name: settings[name] for name in ("threshold", "tau", "coverage", "skip_first")}
    config = TraceConfig(method="paper", roots="all", **chosen)
    prepared = prepare_cached(model, config)
    with progressing(progress, "reproducing") as told:
        trace = trace_prepared(prepared, prompts, config, progress=naming(told, "tracing prompts"))
        firings = Firings(trace, find_near(prepared, prompts, config))
        roots = settings["roots"] if shaped else find_roots(trace)
        graph = published_form(trace, roots=roots) if roots else nx.DiGraph()
        asked = asked_by(published.numbers) if shaped else asked_of(firings, graph, roots)
        sets = named_sets(asked.sets, published.graph if shaped else graph)
        effects = _effects(model, prompts, sets, config, naming(told, "taking edges away")) if sets else None
    measured = {
        **_prompt_numbers(trace),
        **firing_numbers(firings, asked),
        **slice_numbers(firings, asked),
        **graph_numbers(graph, published.graph if applies else None),
        **edge_numbers(graph, asked.edges),
    }
    if effects is not None:
        measured |= effect_numbers(effects, sets, firings, published.interventions if applies else None)
    expected = published_values(published.numbers, len(prompts)) if applies else {}
    return Reproduction(compared(expected, measured), applies, shaped, roots, trace, graph, effects)


def asked_of(firings: Firings, graph: nx.DiGraph, roots: str) -> Asked:
    """What is asked of a model for which nothing was published: the same of its own roots and edges."""
    pairs = tuple(roots.split(",")) if roots else ()
    most = max(pairs, key=lambda pair: len(firings.rows(pair)), default=None)
    half = -(-len(firings.rows(most)) // 2) if most else 0
    return Asked(pairs, most, half, (), strongest_edges(graph, STRONGEST), own_sets(graph, roots))


def named_sets(texts: Sequence[str], graph: nx.DiGraph) -> dict[str, tuple[str, ...]]:
    """The edges' names of each set described."""
    return {text: tuple(name_of(graph, ends) for ends in edges_named(text, graph)) for text in texts}


def own_sets(graph: nx.DiGraph, roots: str) -> tuple[str, ...]:
    """Sets that a graph itself suggests: the strongest edges into both ends of the first roots, alone and together."""
    found: list[str] = []
    for root in roots.split(",")[:ROOTS_TAKEN] if roots else ():
        head, _, ends = root.partition("@")
        readers = {f"{head}@{role}" for role in ends.split(":")}
        into: dict[str, list[tuple[str, str]]] = {}
        for writer, reader, _ in sorted(graph.edges(data=True), key=lambda edge: -edge[2]["total"]):
            if in_our_form(reader) in readers and not is_tie(writer):
                into.setdefault(reader, []).append((writer, reader))
        parts = [edges[:EDGES_TAKEN] for edges in into.values()]
        found += [described(part[:1]) for part in parts] + [described(part) for part in parts]
        if len(parts) > 1:
            found.append(described([ends for part in parts for ends in part]))
    return tuple(dict.fromkeys(found))


def _effects(
    model: Model,
    prompts: Sequence[Prompt],
    sets: Mapping[str, Sequence[str]],
    config: TraceConfig,
    progress: Callable[[int, int], None] | None,
) -> pa.Table:
    """Take every set away, globally and locally; the column `edges` gets the sets' descriptions."""
    from svdtrace.interventions.intervening import intervene
    from svdtrace.interventions.settings import InterventionConfig

    way: Any = InterventionConfig(where="both", direction="ablate", method="paper")
    table = intervene(model, prompts, list(sets.values()), way, tracing=config, progress=progress).table
    texts = {",".join(names): text for text, names in sets.items()}
    named = pa.array([texts[name] for name in table["edges"].to_pylist()], pa.string())
    field = column("edges", pa.string(), "the edges edited as one set, as its description names them")
    return table.set_column(table.schema.get_field_index("edges"), field, named)


def _prompt_numbers(trace: Trace) -> dict[Key, Measured]:
    """The mean logit difference, and how many different tokens there are up to the last traced ones."""
    difference = trace.prompts["logit_difference"].drop_null().to_numpy()
    tokens = set()
    for row in trace.prompts.select(["tokens", "roles"]).to_pylist():
        tokens |= set(row["tokens"][: dict(row["roles"]).get("end", len(row["tokens"]) - 1) + 1])
    found = {("prompts", "distinct tokens"): Measured(len(tokens))}
    if len(difference):
        found["prompts", "mean logit difference"] = Measured(float(difference.mean()))
    return found
