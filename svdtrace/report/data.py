"""All that the page draws, as one JSON object of at most a few megabytes, whatever the size of the trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from svdtrace.pictures.connections import ConnectionCount, Connections, MoveCount, Moves, count, count_edges
from svdtrace.pictures.traced import model_of
from svdtrace.report.answers import Result
from svdtrace.report.answers.characterisation import characterisation_json
from svdtrace.report.answers.faithfulness import faithfulness_json
from svdtrace.report.answers.interventions import interventions_json
from svdtrace.report.cards import Cards, LookedAt, not_asked, page_cards
from svdtrace.report.evidence import EvidenceCount, chance_json, stability_json
from svdtrace.report.heads import HeadCount, Heads
from svdtrace.report.medians import ROUNDS, ShareCount
from svdtrace.report.numbers import all_rounded, size_of
from svdtrace.report.prompt_views import EDGES_PER_SIDE, FIRINGS_PER_PROMPT, PromptViews, prompt_views
from svdtrace.report.totals import AllPrompts, TotalCount, Totals, all_prompts
from svdtrace.report.vectors import VectorCount
from svdtrace.results.in_parts import InParts, Tables

CONNECTIONS = 4_000
MOVES = 4_000
VECTORS_PER_CONNECTION = 6
SECTIONS = {
    "intervene": ("interventions", interventions_json),
    "characterise": ("characterisation", characterisation_json),
    "circuit": ("faithfulness", faithfulness_json),
}
"""By command: the section that shows its result, and what makes the section's data."""
PASSES = 3 + ROUNDS
"""How often at most all parts are gone through: prompts, counts, shares, single prompts."""
CARD_BYTES = 1_500_000
"""Of them at most so many for cards of single firings."""
ASKED = ["layer", "head", "dest", "src", "pattern", "size"]
"""Columns of the firings that a single prompt's headline is made of."""
WRITTEN = {True: "what heads wrote", False: "all written"}
"""What shares are of, by whether heads are the only writers."""
BYTES = 4_250_000
"""Of JSON; with the drawing library and the page's own text this stays under 5 MB."""


@dataclass(frozen=True)
class PageData:
    """What the page draws.

    Args:
        json: the page's data.
        n_connections: connections in all.
        prompts: what is known of all prompts.
        totals: all firings and edges together.
        n_shown: prompts shown one by one.
        heads: heads that fired.
        d_head: singular vectors of a head.
        left_out: sentences that say what the page does not show.
        strongest: of a single prompt, what the head does that the output owes most to.
    """

    json: dict[str, Any]
    n_connections: int
    prompts: AllPrompts
    totals: Totals
    n_shown: int
    heads: Heads
    d_head: int
    left_out: tuple[str, ...]
    strongest: str = ""


def page_data(trace: InParts, results: Sequence[Result] = (), limit: int = BYTES, folder: str = "trace") -> PageData:
    """Count a trace together, and cut what would make the page too large.

    Args:
        trace: a trace, or a sweep's parts, of which one at a time is in memory.
        results: of other commands, to stand beside it.
        limit: bytes of JSON; single prompts get what the rest leaves.
        folder: where the trace is, as commands shall name it.
    """
    closely: list[LookedAt] = []
    prompts = all_prompts(_noting_close_ups(trace.parts(), closely))
    model = model_of(trace.manifest)
    totals, by_head = TotalCount(), HeadCount(int(model.get("d_head", 0)))
    linking, moving = ConnectionCount(), MoveCount()
    count(trace.parts(), prompts.roles, totals, by_head, linking, moving)
    heads, linked, moved = by_head.heads(), linking.connections(), moving.moves()
    writers = {name: place for place, name in enumerate(linked.keys.writers.all())}
    data: dict[str, Any] = {
        "shape": _shape(model, heads),
        "vectors": by_head.n_vectors,
        "n_prompts": prompts.count,
        "roots": trace.manifest.get("config", {}).get("roots", "all"),
        "method": trace.manifest.get("config", {}).get("method", "exact"),
        "roles": list(prompts.roles),
        "writers": list(writers),
        "written": WRITTEN[trace.manifest.get("config", {}).get("writers") == "heads"],
        "heads": _heads_json(heads),
        "connections": _connections_json(trace, prompts.roles, linked, writers, by_head.n_vectors),
        "moves": _moves_json(moved),
        "chance": chance_json(trace.manifest),
        "stability": stability_json(trace.manifest),
    }
    sections, of_results = _sections(results)
    data |= sections
    cards = page_cards(closely, trace.manifest, results, min(CARD_BYTES, (limit - size_of(data)) // 2), folder)
    data |= {"cards": cards.packed, "not_asked": not_asked(trace.manifest, results), "folder": folder}
    views = prompt_views(trace.parts(), prompts.texts, writers, limit - size_of(data))
    data["prompts"] = views.packed
    left_out = [
        _of_connections(linked),
        _of_moves(moved),
        _of_prompts(views.count, prompts.count),
        *_of_views(views),
        _of_cards(cards),
        *of_results,
    ]
    return PageData(
        json=data,
        n_connections=len(linked),
        prompts=prompts,
        totals=totals.totals,
        n_shown=views.count,
        heads=heads,
        d_head=by_head.n_vectors,
        left_out=tuple(each for each in left_out if each),
        strongest=_strongest(trace.parts(), by_head.n_vectors) if prompts.count == 1 else "",
    )


def _strongest(parts: Iterable[Tables], d_head: int) -> str:
    """Of a single prompt: where that head looks that has the largest direct effect at the last token, or without such
    roots the topmost that attends most; nothing where none fires.
    """
    # Parts of a sweep may hold no prompt that was left.
    only = next(part for part in parts if part.prompts.num_rows)
    prompt, firings = only.prompts.to_pylist()[0], only.firings.select(ASKED).to_pylist()
    effects = dict(prompt["root_effects"] or [])
    last = max((row["dest"] for row in firings), default=0)
    at_last = [row for row in firings if row["dest"] == last]
    if not at_last:
        return ""

    def worth(row: Mapping[str, Any]) -> tuple[float, ...]:
        return effects.get(f"{row['layer']}.{row['head']}", -np.inf), row["layer"], row["pattern"]

    best = max(at_last, key=worth)
    where, there = (prompt["strings"][best[end]].strip() or prompt["strings"][best[end]] for end in ("dest", "src"))
    return (
        f"{best['layer']}.{best['head']} at “{where}” looks at “{there}” through {best['size']} of {d_head} dimensions"
    )


def _noting_close_ups(parts: Iterable[Tables], closely: list[LookedAt]) -> Iterator[Tables]:
    """The parts; those with close-ups, which a trace's one part has and none of a sweep's, are kept for the cards."""
    for part in parts:
        if getattr(part, "close_ups", None) is not None:
            closely.append(cast(LookedAt, part))
        yield part


def _sections(results: Sequence[Result]) -> tuple[dict[str, Any], list[str]]:
    """What stands beside the trace, by section, and what is left out of it."""
    sections, left_out = {}, []
    for result in results:
        section, made = SECTIONS[result.command]
        sections[section], sentences = made(result)
        left_out += sentences
    return sections, left_out


def _shape(model: Mapping[str, Any], by_head: Heads) -> dict[str, int]:
    return {
        "layers": int(model.get("n_layers", by_head.layer.max(initial=0) + 1)),
        "heads": int(model.get("n_heads", by_head.head.max(initial=0) + 1)),
    }


def _heads_json(by_head: Heads) -> dict[str, Any]:
    return {
        "layer": by_head.layer.tolist(),
        "head": by_head.head.tolist(),
        "firings": by_head.firings.tolist(),
        "prompts": by_head.prompts.tolist(),
        "pattern": all_rounded(by_head.pattern, 3),
        "sizes": by_head.sizes.tolist(),
        "vectors": by_head.vectors.tolist(),
    }


def _connections_json(
    trace: InParts, roles: Sequence[str], linked: Connections, writers: Mapping[str, int], n_vectors: int
) -> dict[str, Any]:
    kept = min(len(linked), CONNECTIONS)
    shares, vectors, evidence = ShareCount(kept), VectorCount(kept, n_vectors), EvidenceCount(kept)
    for only_once in [(vectors, evidence), *[()] * (ROUNDS - 1)]:
        count_edges(trace.parts(), roles, linked, shares, *only_once)
        shares.of.settle()
    numbers = ("layer", "head", "role", "side", "prompts", "count", "near_tie", "nonpositive")
    return {
        "writer": [writers[name] for name in linked.writer[:kept]],
        **{name: getattr(linked, name)[:kept].tolist() for name in numbers},
        **{name: all_rounded(getattr(linked, name)[:kept]) for name in ("weight", "total")},
        "share": all_rounded(shares.of.medians(), 3),
        "vectors": [_most_used(each) for each in vectors.counts],
        **evidence.json(),
    }


def _most_used(counts: np.ndarray) -> list[int]:
    """Vectors that most of the firings have in their slice: index, count, index, count, …"""
    best = np.argsort(-counts, kind="stable")[:VECTORS_PER_CONNECTION]
    return [int(each) for vector in best if counts[vector] for each in (vector, counts[vector])]


def _moves_json(moved: Moves) -> dict[str, Any]:
    return {
        **{
            name: getattr(moved, name)[:MOVES].tolist() for name in ("layer", "head", "dest", "src", "prompts", "count")
        },
        **{name: all_rounded(getattr(moved, name)[:MOVES], 3) for name in ("pattern", "size")},
    }


def _of_connections(linked: Connections) -> str | None:
    if len(linked) <= CONNECTIONS:
        return None
    size = np.abs(linked.total)
    rest = size[CONNECTIONS:].sum() / size.sum()
    return (
        f"Of the circuit and its table, {len(linked) - CONNECTIONS:,} of {len(linked):,} connections, those with the "
        f"smallest totals; together they carry {rest:.1%} of the weight."
    )


def _of_moves(moved: Moves) -> str | None:
    more = len(moved.count) - MOVES
    return f"Of the circuit, the {more:,} rarest pairs of roles between which a head attends." if more > 0 else None


def _of_cards(cards: Cards) -> str | None:
    if cards.complete:
        return None
    return (
        f"Of single prompts after the first {cards.prompts:,}, how heads' attention lies over the tokens and who wrote "
        "into each singular vector."
    )


def _of_views(views: PromptViews) -> list[str]:
    sentences = []
    if views.edges_left_out:
        most = f"the {EDGES_PER_SIDE} strongest of each firing and side"
        sentences.append(f"Of single prompts, {views.edges_left_out:,} edges beyond {most}.")
    if views.firings_left_out:
        sentences.append(
            f"Of single prompts, {views.firings_left_out:,} firings beyond the {FIRINGS_PER_PROMPT} with the largest "
            "scores of their prompt, with their edges."
        )
    return sentences


def _of_prompts(shown: int, n_prompts: int) -> str | None:
    return f"Of single prompts, those after the first {shown:,} of {n_prompts:,}." if shown < n_prompts else None
