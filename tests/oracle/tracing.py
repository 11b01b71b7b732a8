"""The whole method on a list of prompts: the rows of `firings.parquet` and `edges.parquet` (METHOD.md, 3 to 7, 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .circuit import PATHS_LIMIT, Key, get, key, last_traced, named_roots, paths_by_layer
from .heads import Decomposition, Slice, choose_slice, decompose, firings, product_bounds, products, whole_slice
from .model import Acts, Config, Params, float64, fold, forward
from .signals import Cut, Firing, contributions, coverage_cut, direct_effects

DEFAULTS: dict[str, Any] = {
    "threshold": 0.5,
    "tau": 1.0,
    "coverage": 0.7,
    "method": "exact",
    "writers": "heads",
    "roots": "all",
    "sides": "both",
    "skip_first": True,
    "score_min": 0.0,
    "processing": "folded",
}
"""TraceConfig's fields that change numbers, with their defaults."""

IGNORED = {"batch_size", "dtype"}
"""TraceConfig's other fields: they change speed and rounding alone."""


class Model(NamedTuple):
    """Parameters in float64 as the trace sees them, their config and their decomposition."""

    params: Params
    config: Config
    svd: Decomposition


class Trace(NamedTuple):
    """What a trace found.

    `firings`, `edges`: the tables' rows, those with paths > 0. `all_firings`, `all_edges`: the same columns for every
    firing, reached or not. `roots`: each prompt's root firings. `details`: by firing (prompt, layer, head, dest, src)
    its `products` and `bounds` over all k, its `slice` and, by side, `contributions` (writer name → c_w, of the writers
    allowed), `bound` (of each c_w) and `cut`.
    """

    firings: list[dict[str, Any]]
    edges: list[dict[str, Any]]
    all_firings: list[dict[str, Any]]
    all_edges: list[dict[str, Any]]
    roots: dict[int, list[Key]]
    details: dict[Key, dict[str, Any]]


def prepare(params: Mapping[str, Any], config: Config, processing: str) -> Model:
    """The model that is traced: folded or as given."""
    ready = fold(params) if processing == "folded" else float64(params)
    return Model(ready, config, decompose(ready, config))


def slice_of(model: Model, acts: Acts, firing: Firing, settings: Mapping[str, Any]) -> Slice:
    """The slice that the method uses at any pair of tokens (section 4)."""
    p = products(acts, model.svd, firing)
    if settings["method"] == "all":
        return whole_slice(p, int(model.svd.rank[firing[0], firing[1]]))
    return choose_slice(p, product_bounds(acts, model.svd, firing), settings["tau"])


def side_of(
    model: Model, acts: Acts, firing: Firing, members: list[int], settings: Mapping[str, Any], side: str
) -> dict[str, Any]:
    """One side of a firing: the contributions of the writers allowed, their bound, the cut (sections 5 and 6)."""
    found = contributions(model.params, model.config, acts, model.svd, firing, members, settings["method"], side)
    if settings["writers"] == "heads":
        found = [c for c in found if c.writer.kind == "head"]
    # "Max over the writers": over those among which edges are chosen.
    bound = max((c.bound for c in found), default=0.0)
    cut = coverage_cut([c.value for c in found], settings["coverage"], bound)
    return {"found": found, "contributions": {c.writer.name: c.value for c in found}, "bound": bound, "cut": cut}


def edge_rows(prompt: int, firing: Firing, side: str, part: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The edges of one side of a firing, without their paths (section 6)."""
    layer, head, dest, src = firing
    cut: Cut = part["cut"]
    rows = []
    for w in cut.chosen:
        writer, weight = part["found"][w][:2]
        rows.append(
            {
                "prompt": prompt,
                "writer": writer.name,
                "writer_layer": writer.layer,
                "writer_head": writer.head,
                "layer": layer,
                "head": head,
                "dest": dest,
                "src": src,
                "side": side,
                "token": dest if side == "dest" else src,
                "weight": weight,
                "share": None if cut.total == 0 else weight / cut.total,
                "near_tie": cut.near_tie,
                "nonpositive_total": cut.total <= 0,
            }
        )
    return rows


def trace_firing(
    model: Model, acts: Acts, prompt: int, firing: Firing, settings: Mapping[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """One firing's row, its edges' rows and its details."""
    layer, head, dest, src = firing
    chosen = slice_of(model, acts, firing, settings)
    row = {
        "prompt": prompt,
        "layer": layer,
        "head": head,
        "dest": dest,
        "src": src,
        "pattern": float(acts["pattern"][firing]),
        "score": float(acts["scores"][firing]),
        "total": chosen.total,
        "size": len(chosen.members),
        "slice": chosen.members,
        "products": chosen.products,
        "near_tie": chosen.near_tie,
    }
    details: dict[str, Any] = {
        "products": products(acts, model.svd, firing),
        "bounds": product_bounds(acts, model.svd, firing),
        "slice": chosen,
    }
    edges = []
    for side in ("dest", "src"):
        if settings["sides"] in ("both", side):
            details[side] = side_of(model, acts, firing, chosen.members, settings, side)
            edges += edge_rows(prompt, firing, side, details[side])
    return row, edges, details


def logit_root_heads(model: Model, acts: Acts, prompt: Any, coverage: float) -> list[tuple[int, int]]:
    """The heads that section 11's coverage rule chooses at a prompt's traced token."""
    effects = direct_effects(
        model.params, model.config, acts, last_traced(prompt), get(prompt, "answer"), get(prompt, "distractor")
    )
    names = [writer.name for writer, _ in effects if writer.kind == "head"]
    chosen = coverage_cut([value for writer, value in effects if writer.kind == "head"], coverage).chosen
    return [(int(names[w].split(".")[0]), int(names[w].split(".")[1])) for w in chosen]


def logit_difference(acts: Acts, prompt: Any) -> float | None:
    """logit[answer] − logit[distractor] at the last traced token; None without both."""
    answer, distractor = get(prompt, "answer"), get(prompt, "distractor")
    if answer is None or distractor is None:
        return None
    logits = acts["logits"][last_traced(prompt)]
    return float(logits[answer] - logits[distractor])


def trace_prompt(model: Model, prompts: Sequence[Any], index: int, settings: Mapping[str, Any]) -> Trace:
    """One prompt's part of a trace; the whole is these put end to end."""
    prompt = prompts[index]
    acts = forward(model.params, model.config, get(prompt, "tokens"))
    last = last_traced(prompt)
    rows: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    details: dict[Key, dict[str, Any]] = {}
    for firing in firings(acts, settings, last):
        row, its_edges, detail = trace_firing(model, acts, index, firing, settings)
        rows.append(row)
        edges += its_edges
        details[key(row)] = detail
    if settings["roots"] == "logit":
        heads = logit_root_heads(model, acts, prompt, settings["coverage"])
        roots = [key(row) for row in rows if (row["layer"], row["head"]) in heads and row["dest"] == last]
    else:
        roots = named_roots(rows, prompts, settings["roots"]).get(index, [])
    paths = paths_by_layer(rows, edges, roots)
    for row in [*rows, *edges]:
        row["paths"] = min(paths[key(row)], PATHS_LIMIT)
    reached = [row for row in rows if row["paths"] > 0], [row for row in edges if row["paths"] > 0]
    return Trace(*reached, rows, edges, {index: roots}, details)


def trace(
    params: Mapping[str, Any], config: Config, prompts: Sequence[Any], settings: Mapping[str, Any] | None = None
) -> Trace:
    """Trace prompts one by one.

    Args:
        params: raw parameters, folded here when `processing` says so (parameters already folded stay as they are).
        prompts: dicts or objects with `tokens`, `roles`, `answer`, `distractor`; None for a rejected one.
        settings: what differs from DEFAULTS; TraceConfig's other fields are ignored.
    """
    settings = DEFAULTS | dict(settings or {})
    unknown = settings.keys() - DEFAULTS.keys() - IGNORED
    if unknown:
        raise ValueError(f"settings that the oracle does not know: {sorted(unknown)}")
    model = prepare(params, config, settings["processing"])
    whole = Trace([], [], [], [], {}, {})
    for index, prompt in enumerate(prompts):
        if prompt is None:
            continue
        part = trace_prompt(model, prompts, index, settings)
        for mine, its in zip(whole[:4], part[:4], strict=True):
            mine.extend(its)
        whole.roots.update(part.roots)
        whole.details.update(part.details)
    return whole
