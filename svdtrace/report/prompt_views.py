"""What the page shows of single prompts: as many as fit, each with its firings and their strongest edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from svdtrace.pictures.connections import SIDES
from svdtrace.report.numbers import last_place, rounded, rounded_at
from svdtrace.report.packing import Packing
from svdtrace.report.vectors import PLACE, firing_of_edges
from svdtrace.results.grouping import Names
from svdtrace.results.in_parts import Tables, columns

PROMPTS_AT_ONCE = 64
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
        likely = _likeliest(part)
        for view in _views(part, texts, writers, likely):
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


def _likeliest(part: Tables) -> dict[int, list[list[Any]]]:
    """Of the first prompts the likeliest tokens at the last traced token, each with its probability."""
    found: dict[int, list[list[Any]]] = {}
    table = getattr(part, "likeliest", None)
    for row in [] if table is None else table.to_pylist():
        found.setdefault(row["prompt"], []).append([row["string"], rounded(row["probability"], 3)])
    return found


def _views(
    part: Tables, texts: Mapping[int, str], writers: Mapping[str, int], likely: Mapping[int, list[list[Any]]]
) -> Iterator[_View]:
    firings = columns(part, "firings", (*PLACE, "pattern", "score", "slice"))
    edges = columns(part, "edges", (*PLACE, "side", "writer", "weight"))
    rows_of = [table["prompt"].to_numpy() for table in (firings, edges)]
    for start in range(0, part.prompts.num_rows, PROMPTS_AT_ONCE):
        prompts = part.prompts.slice(start, PROMPTS_AT_ONCE)
        number = prompts["prompt"].to_numpy()
        # Of the type that the rows have, else all of them were converted.
        of_firing, of_edge = (np.searchsorted(each, np.append(number, number[-1:] + 1)) for each in rows_of)
        of_these = (_between(firings, of_firing), _between(edges, of_edge))
        detail = _Detail.of(*of_these, writers)
        starts = (of_firing - of_firing[0]).tolist()
        for row, prompt in enumerate(prompts.to_pylist()):
            firing_columns, edges_left_out, firings_left_out = detail.between(starts[row], starts[row + 1])
            described = _described(prompt, texts) | {"likely": likely.get(prompt["prompt"], [])}
            yield _View(described | {"firings": firing_columns}, edges_left_out, firings_left_out)


def _between(table: pa.Table, stops: np.ndarray) -> pa.Table:
    return table.slice(int(stops[0]), int(stops[-1] - stops[0]))


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
        "effects": [[name, rounded(effect, 3)] for name, effect in prompt.get("root_effects") or []],
        "target": prompt.get("target_string"),
    }


def _shown(token: int | None, text: Mapping[int, str]) -> str | None:
    return None if token is None else text.get(token, f"token {token}")


@dataclass(frozen=True)
class _Detail:
    """Firings of some prompts and the strongest edges of each, strongest first, the destination's before the source's.

    Args:
        firing: by name the columns of `FIRING` that have one entry a firing; lists, as all that goes into the page.
        score: of each firing.
        slices: of each firing.
        edges: of each firing the first of its edges, and after all the number of edges.
        writer, weight: of each edge.
        dropped: edges of each firing that are left out.
    """

    firing: Mapping[str, list[Any]]
    score: Float[np.ndarray, " firing"]
    slices: list[list[int]]
    edges: list[int]
    writer: list[int]
    weight: list[float | int]
    dropped: Int[np.ndarray, " firing"]

    @classmethod
    def of(cls, firings: pa.Table, edges: pa.Table, writers: Mapping[str, int]) -> _Detail:
        """The detail of whole prompts."""
        many = firings.num_rows
        weight = edges["weight"].to_numpy().astype(float)
        group = 2 * firing_of_edges(firings, edges) + Names(SIDES).of(edges["side"])
        order = np.lexsort((-weight, group))
        in_all = np.bincount(group, minlength=2 * many)
        rank = np.arange(len(order)) - (np.cumsum(in_all) - in_all)[group[order]]
        order = order[rank < EDGES_PER_SIDE]
        kept = np.minimum(in_all, EDGES_PER_SIDE)
        # To the place of the strongest one's third digit: the first and the last of a falling list hold it.
        strongest = np.zeros(2 * many)
        np.maximum.at(strongest, group[order], np.abs(weight[order]))
        names = Names()
        writer = names.of(edges["writer"])
        number = np.asarray([writers[name] for name in names.all()], int)
        pattern = firings["pattern"].to_numpy().astype(float)
        slices = firings["slice"].to_pylist()
        firing = {
            **{name: firings[name].to_pylist() for name in PLACE[1:]},
            "pattern": rounded_at(pattern, last_place(np.abs(pattern), 2)),
            "size": [len(each) for each in slices],
            "n_dest": kept[0::2].tolist(),
            "n_src": kept[1::2].tolist(),
        }
        return cls(
            firing=firing,
            score=np.nan_to_num(firings["score"].to_numpy().astype(float)),
            slices=slices,
            edges=[0, *np.cumsum(kept[0::2] + kept[1::2]).tolist()],
            writer=number[writer[order]].tolist(),
            weight=rounded_at(weight[order], last_place(strongest, 3)[group[order]]),
            dropped=(in_all - kept).reshape(many, 2).sum(axis=1),
        )

    def between(self, first: int, stop: int) -> tuple[list[list[Any]], int, int]:
        """The columns `FIRING` of one prompt's firings; how many of their edges, and of its firings, are left out."""
        best = np.argsort(-self.score[first:stop], kind="stable")[:FIRINGS_PER_PROMPT]
        rows = (first + np.sort(best)).tolist()
        columns: dict[str, list[Any]] = {name: [values[row] for row in rows] for name, values in self.firing.items()}
        columns["slice"] = [vector for row in rows for vector in self.slices[row]]
        for name in ("writer", "weight"):
            values = getattr(self, name)
            columns[name] = [each for row in rows for each in values[self.edges[row] : self.edges[row + 1]]]
        return [columns[name] for name in FIRING], int(self.dropped[rows].sum()), stop - first - len(rows)
