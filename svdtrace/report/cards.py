"""What the page shows of single firings: cards of the first prompts, packed, and the words for what was not asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from svdtrace.explaining import told, words
from svdtrace.explaining.card import Card, Writer
from svdtrace.explaining.finding import OnePrompt
from svdtrace.report.answers import Result, same_prompts
from svdtrace.report.numbers import all_rounded, rounded
from svdtrace.report.packing import Packing
from svdtrace.results.in_parts import Tables

CARDS = 1_000
"""Firings at most that the page has a whole card of."""


class LookedAt(Tables, Protocol):
    """Tables of prompts with close-ups of the first of them."""

    @property
    def close_ups(self) -> pa.Table:
        """`close_ups.parquet`."""
        ...


@dataclass(frozen=True)
class Cards:
    """Cards of the first prompts.

    Args:
        packed: one JSON object a prompt, packed: its number, and its cards by firing.
        prompts: how many prompts these are.
        complete: whether they are all that the trace looked at closely.
    """

    packed: str
    prompts: int
    complete: bool


def page_cards(
    parts: Iterable[LookedAt], manifest: Mapping[str, Any], results: Sequence[Result], budget: int, folder: str
) -> Cards:
    """The cards of whole prompts, as many as fit.

    Args:
        parts: of a trace.
        results: beside it, of which interventions on the same prompts are told.
        budget: bytes of the page.
        folder: of the trace, as commands shall name it.
    """
    packing, count, prompts = Packing(budget), 0, 0
    tried = _tried(results, manifest)
    for part in parts:
        for prompt in dict.fromkeys(part.close_ups["prompt"].to_pylist()):
            one = OnePrompt.of(part, manifest, prompt, tried, folder)
            if count and count + len(one.close) > CARDS:
                return Cards(packing.text(), prompts, complete=False)
            cards = [_card(card) for card in one.cards() if card.firing.keys is not None]
            if not packing.add({"prompt": prompt, "cards": cards}):
                return Cards(packing.text(), prompts, complete=False)
            count, prompts = count + len(cards), prompts + 1
    return Cards(packing.text(), prompts, complete=True)


def not_asked(manifest: Mapping[str, Any], results: Sequence[Result]) -> dict[str, bool]:
    """Which questions on edges nobody asked of a trace."""
    return {
        "chance": not manifest.get("chance"),
        "stability": not manifest.get("stability"),
        "interventions": _tried(results, manifest) is None,
    }


def _tried(results: Sequence[Result], manifest: Mapping[str, Any]) -> pa.Table | None:
    """The interventions on the trace's own prompts, if they are beside it."""
    mine = (each for each in results if each.command == "intervene" and same_prompts(each.manifest, manifest))
    return next((each.tables.get("interventions") for each in mine), None)


def _card(card: Card) -> dict[str, Any]:
    its = card.firing
    keys = its.keys or ()
    found: dict[str, Any] = {
        "at": [its.layer, its.head, its.dest, its.src],
        "said": [told.headline(card), told.through(card)],
        "pattern": all_rounded((key.pattern for key in keys), 3),
        "scores": all_rounded((key.score for key in keys), 3),
        "vectors": [
            [each.number, rounded(each.product, 3), *(_most(card, side, place) for side in words.SIDES)]
            for place, each in enumerate(its.vectors)
        ],
        "writers": [_writer(card, each) for each in card.writers],
        "notes": told.notes(card),
    }
    if its.relative:
        found["path"] = all_rounded((key.path or 0.0 for key in keys), 3)
    return found


def _most(card: Card, side: str, place: int) -> list[Any] | None:
    """Who wrote most into a vector on a side, and how much."""
    each = told.most_into(card, side, place)
    return None if each is None or each.by_vector is None else [each.name, rounded(each.by_vector[place], 3)]


def _writer(card: Card, writer: Writer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": writer.name,
        "side": writer.side,
        "token": writer.token,
        "weight": rounded(writer.weight, 3),
        "share": rounded(writer.share, 3),
    }
    numbers = {name: rounded(getattr(writer, name), 3) for name in ("here", "rivals", "drop")}
    found |= {name: value for name, value in numbers.items() if value is not None}
    found |= {name: rounded(value, 3) for name, value in writer.evidence.items() if value is not None}
    if writer.attended:
        found["attended"] = [[each.token, rounded(each.pattern, 3)] for each in writer.attended[:3]]
    if writer.by_vector is not None:
        found["by"] = all_rounded(writer.by_vector, 3)
    left = told.answers(card, writer)
    if left:
        found["left"] = [list(each) for each in left]
    return found
