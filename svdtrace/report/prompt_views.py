"""What the page shows of single prompts: as many as fit, each with its firings and their strongest edges."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.report.numbers import rounded
from svdtrace.report.packing import Packing
from svdtrace.results.in_parts import Tables

EDGES_PER_SIDE = 6
FIRINGS_PER_PROMPT = 400
FIRING = ("layer", "head", "dest", "src", "pattern", "size", "slice", "n_dest", "n_src", "writer", "weight")


@dataclass(frozen=True)
class PromptViews:
    """Prompts in detail, and what was left out of them.

    Args:
        packed: one JSON object a prompt, packed; `firings` holds the columns `FIRING` of its firings, in which slices
            and edges are flat, one after another: `size` numbers of the slice, then of the edges `n_dest` on the
            destination's side and `n_src` on the source's, a writer by its number. Columns pack better than rows.
        count: prompts packed.
        edges_left_out: edges of these prompts beyond the strongest of each firing and side.
        firings_left_out: firings of these prompts beyond those with the largest scores.
    """

    packed: str
    count: int
    edges_left_out: int
    firings_left_out: int


def prompt_views(
    parts: Iterable[Tables], texts: Mapping[int, str], writers: Mapping[str, int], budget: int
) -> PromptViews:
    """The first prompts, until they fill the budget; no part beyond is read.

    Args:
        parts: of a trace.
        texts: of the tokens, by their ids.
        writers: numbers of the writers.
        budget: bytes of the page.
    """
    packing = Packing(budget)
    count = edges_left_out = firings_left_out = 0
    for part in parts:
        for view in _views(part, texts, writers):
            if not packing.add(view.json):
                return PromptViews(packing.text(), count, edges_left_out, firings_left_out)
            count += 1
            edges_left_out += view.edges_left_out
            firings_left_out += view.firings_left_out
    return PromptViews(packing.text(), count, edges_left_out, firings_left_out)


@dataclass(frozen=True)
class _View:
    """One prompt in detail, and what was left out of it."""

    json: dict[str, Any]
    edges_left_out: int
    firings_left_out: int


def _views(part: Tables, texts: Mapping[int, str], writers: Mapping[str, int]) -> Iterator[_View]:
    place = ["prompt", "layer", "head", "dest", "src"]
    firing_rows = _RowsOf(part.firings.select([*place, "pattern", "score", "slice"]))
    edge_rows = _RowsOf(part.edges.select([*place, "side", "writer", "weight"]))
    for batch in part.prompts.to_batches(max_chunksize=64):
        for prompt in batch.to_pylist():
            mine = firing_rows.of(prompt["prompt"])
            kept = sorted(mine, key=lambda firing: -(firing["score"] or 0.0))[:FIRINGS_PER_PROMPT]
            columns, dropped = _firings(kept, edge_rows.of(prompt["prompt"]), writers)
            yield _View(_described(prompt, texts) | {"firings": columns}, dropped, len(mine) - len(kept))


class _RowsOf:
    """Rows of a table that is sorted by prompt."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._prompt = table["prompt"].to_numpy()

    def of(self, prompt: int) -> list[dict[str, Any]]:
        first, stop = np.searchsorted(self._prompt, [prompt, prompt + 1])
        return self._table.slice(int(first), int(stop - first)).to_pylist()


def _described(prompt: Mapping[str, Any], text: Mapping[int, str]) -> dict[str, Any]:
    return {
        "prompt": prompt["prompt"],
        "id": prompt["id"],
        "strings": prompt["strings"],
        "text": prompt.get("text"),
        "roles": [list(role) for role in prompt["roles"] or []],
        "answer": _shown(prompt["answer"], text),
        "distractor": _shown(prompt["distractor"], text),
        "logit_difference": rounded(prompt["logit_difference"]),
    }


def _shown(token: int | None, text: Mapping[int, str]) -> str | None:
    return None if token is None else text.get(token, f"token {token}")


def _firings(
    firings: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]], writers: Mapping[str, int]
) -> tuple[list[list[Any]], int]:
    """The columns of the firings, in the tables' order, and how many of their edges were left out."""
    by_firing: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for edge in edges:
        by_firing[*_place(edge), edge["side"]].append(edge)
    columns: dict[str, list[Any]] = {name: [] for name in FIRING}
    dropped = 0
    for firing in sorted(firings, key=_place):
        for name in ("layer", "head", "dest", "src"):
            columns[name].append(firing[name])
        columns["pattern"].append(rounded(firing["pattern"], 2))
        columns["size"].append(len(firing["slice"]))
        columns["slice"] += firing["slice"]
        for side in ("dest", "src"):
            all_edges = sorted(by_firing[*_place(firing), side], key=lambda edge: -edge["weight"])
            kept = all_edges[:EDGES_PER_SIDE]
            dropped += len(all_edges) - len(kept)
            columns[f"n_{side}"].append(len(kept))
            columns["writer"] += [writers[edge["writer"]] for edge in kept]
            columns["weight"] += _weights([edge["weight"] for edge in kept])
    return list(columns.values()), dropped


def _weights(values: Sequence[float]) -> list[float | int | None]:
    """Weights of one side, falling, to the place of the strongest one's third digit."""
    strongest = max(map(abs, values), default=0.0)
    place = 2 - math.floor(math.log10(strongest)) if strongest > 0 else 0
    return [rounded(round(value, place), 3) for value in values]


def _place(row: Mapping[str, Any]) -> tuple[int, int, int, int]:
    return row["layer"], row["head"], row["dest"], row["src"]
