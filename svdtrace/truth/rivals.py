"""Other ways to find a circuit, on the same models: attribution patching, path patching, composition scores.

Each gives every candidate edge a number. From the same roots as a trace, each reader's writers are cut by the rule of
METHOD.md, section 6, and heads among them are readers in turn, wherever they fire.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from jaxtyping import Bool, Float

from gpt2jax.params import Blocks
from svdtrace.config import TraceConfig
from svdtrace.faithfulness.clean import clean_run
from svdtrace.faithfulness.editing import MEASURES
from svdtrace.faithfulness.given import Candidates, candidates, given
from svdtrace.faithfulness.measuring import attribution_scores, measurements
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.circuit_graph import OTHER
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.roots import ANY, parse_roots
from svdtrace.tracing.rows import SIDES, WriterOrder
from svdtrace.tracing.trace import Trace, trace_prepared
from svdtrace.truth.outcomes import Edge, Firing, Outcome

ATTRIBUTION, PATCHING, COMPOSITION = "attribution patching", "path patching", "composition scores"
RIVALS = (ATTRIBUTION, PATCHING, COMPOSITION)
NOISE = 1e-5
"""Of the mean size of the measure: smaller effects are its rounding in float32 and are taken for none."""
Values = Callable[[str, str, str], dict[str, float]]
"""From a reader, a side and a role of the token written at to every writer's number."""


@dataclass(frozen=True)
class Rivals:
    """Every rival's numbers, and where heads fire: the roles from and to which each looks in most prompts."""

    values: dict[str, Values]
    firings: frozenset[Firing]
    roots: frozenset[Firing]

    def outcome(self, name: str, coverage: float) -> Outcome:
        """What one of them finds."""
        edges: set[Edge] = set()
        reached, waiting = set(self.roots), list(self.roots)
        while waiting:
            reader, i, j = waiting.pop()
            for side, t in zip(SIDES, (i, j), strict=True):
                writers = self.values[name](reader, side, t)
                labels = np.asarray(list(writers))
                for writer in labels[covering(np.asarray(list(writers.values())), coverage)].tolist():
                    edges.add(Edge(writer, reader, side, t, i, j))
                    following = {each for each in self.firings if each[:2] == (writer, t)} - reached
                    reached |= following
                    waiting += following
        return Outcome(frozenset(edges), frozenset(reached))


def rivals(prepared: Prepared, prompts: Sequence[Prompt], roots: str) -> Rivals:
    """Run every rival that the prompts allow: patching needs answers and distractors.

    What is patched is all that a writer puts into a query or key, not a slice of it.
    """
    # Under `all` a slice holds every singular vector.
    everywhere = TraceConfig(method="all", writers="all")
    trace = trace_prepared(prepared, prompts, everywhere)
    firings = _usual_firings(trace, len(prompts))
    values: dict[str, Values] = {}
    if any(None not in (prompt.answer, prompt.distractor) for prompt in prompts) and trace.firings.num_rows:
        values |= _patched(prepared, trace, everywhere)
    values[COMPOSITION] = _composition(prepared)
    named = parse_roots(roots, prepared.model.config, prompts)
    begun = {
        (reader, i, j)
        for reader, i, j in firings
        if not named
        or any(
            f"{each.layer}.{each.head}" == reader and each.dest in (ANY, i) and each.src in (ANY, j) for each in named
        )
    }
    return Rivals(values, firings, frozenset(begun))


def covering(values: Float[np.ndarray, " writer"], coverage: float) -> Bool[np.ndarray, " writer"]:
    """Which writers METHOD.md's section 6 takes; none where no number is positive."""
    order = np.sort(values[values > 0])[::-1]
    if not len(order):
        return np.zeros(len(values), bool)
    beyond = np.cumsum(order) > coverage * values.sum()
    return values >= (order[np.argmax(beyond)] if beyond.any() else order[-1])


def composition_scores(blocks: Blocks) -> dict[str, Float[np.ndarray, "layer head layer head"]]:
    """‖W_OV Ω‖ / (‖W_OV‖ ‖Ω‖) of every writer and reader, Ω = W_Q W_Kᵀ on the query's side, transposed on the key's.

    Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits". 0 where a head has no weights.

    Args:
        blocks: folded weights, without bias rows.
    """
    W_Q, W_K, W_V, W_O = (np.asarray(getattr(blocks, name), float) for name in ("W_Q", "W_K", "W_V", "W_O"))
    gram = lambda a, b: np.swapaxes(a, -1, -2) @ b  # noqa: E731
    of_V, of_Q, of_K, of_O = gram(W_V, W_V), gram(W_Q, W_Q), gram(W_K, W_K), W_O @ np.swapaxes(W_O, -1, -2)
    written = np.sqrt(np.einsum("lnab,lnba->ln", of_V, of_O))
    read = np.sqrt(np.einsum("lnab,lnba->ln", of_Q, of_K))
    found = {}
    for side, near, far in zip(SIDES, (W_Q, W_K), (of_K, of_Q), strict=True):
        core = np.einsum("wahd,rbdk->warbhk", W_O, near)
        size = np.einsum("wahg,warbgk,rbkm,warbhm->warb", of_V, core, far, core, optimize=True)
        both = written[:, :, None, None] * read
        found[side] = np.divide(np.sqrt(np.maximum(size, 0)), both, out=np.zeros_like(both), where=both > 0)
    return found


def _composition(prepared: Prepared) -> Values:
    # The singular gauge leaves Ω without its bias rows as it is.
    scores = composition_scores(prepared.model.params.blocks)

    def values(reader: str, side: str, _role: str) -> dict[str, float]:
        layer, head = map(int, reader.split("."))
        found = scores[side][:layer, :, layer, head]
        return {f"{m}.{a}": float(found[m, a]) for m, a in np.ndindex(found.shape)}

    return values


def _patched(prepared: Prepared, trace: Trace, config: TraceConfig) -> dict[str, Values]:
    """The mean drop of the logit difference without an edge: its slope at the clean run, and as it is."""
    shape, measure = prepared.model.config, MEASURES.index("logit_difference")
    order, source = WriterOrder.of(shape.n_layers, shape.n_heads), given(trace.prompts, trace.firings, trace.edges)
    listed = candidates(source, replace(config, method="exact"), order)
    bench, _ = clean_run(prepared, replace(config, batch_size="auto"), source)
    places, groups = listed.places(), _groups(listed, source.roles.names)
    widest = max(map(len, groups.values()))

    def without(edges: list[int]) -> np.ndarray:
        """The logit difference without each of some edges, [edge prompt]; as many runs each time, so that one program
        serves all.
        """
        alone = np.zeros((widest, len(listed)), bool)
        alone[np.arange(len(edges)), edges] = True
        return measurements(bench, places, alone, np.zeros(widest, bool))[: max(1, len(edges)), measure]

    clean, slopes = without([]), attribution_scores(bench, places)[measure]
    least = NOISE * np.abs(clean).mean()

    def named(edges: list[int], effects: np.ndarray) -> dict[str, float]:
        kept = np.where(np.abs(effects) > least, effects, 0)
        return {order.labels[listed.writer[at]]: float(each) for at, each in zip(edges, kept, strict=True)}

    def attributed(*group: str) -> dict[str, float]:
        edges = groups.get(group, [])
        return named(edges, slopes[edges])

    @cache
    def patched(*group: str) -> dict[str, float]:
        edges = groups.get(group, [])
        return named(edges, (clean - without(edges)).mean(axis=-1)) if edges else {}

    return {ATTRIBUTION: attributed, PATCHING: patched}


def _groups(listed: Candidates, roles: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Candidates by reader, side and role of the token written at."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for at in range(len(listed)):
        reader, role = f"{listed.layer[at]}.{listed.head[at]}", str(roles[listed.role[at]])
        groups.setdefault((reader, SIDES[listed.side[at]], role), []).append(at)
    return groups


def _usual_firings(trace: Trace, n_prompts: int) -> frozenset[Firing]:
    names = ("prompt", "layer", "head", "dest_role", "src_role")
    rows = set(zip(*(trace.firings[name].to_pylist() for name in names), strict=True))
    count = Counter((f"{layer}.{head}", i or OTHER, j or OTHER) for _, layer, head, i, j in rows)
    return frozenset(firing for firing, many in count.items() if 2 * many >= n_prompts)
