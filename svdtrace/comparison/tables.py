"""The tables of `compare`: their columns, listed once, and how measurements become rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float

from svdtrace.comparison.gathering import Measured
from svdtrace.comparison.orders import PROVEN
from svdtrace.comparison.removing import FALLS, METHODS
from svdtrace.results.columns import described
from svdtrace.tracing.rows import SIDES, WriterOrder

_FIRING = (
    ("prompt", pa.int32(), "0-based place of the prompt in the input"),
    ("layer", pa.int32(), "layer of the head that reads"),
    ("head", pa.int32(), "that head"),
    ("dest", pa.int32(), "token from which it looks"),
    ("src", pa.int32(), "token to which it looks"),
    ("side", pa.string(), "what writers are taken out of: dest (the query) or src (the keys)"),
)
_WEIGHTS = {
    "relative": "weight under the method relative, in attention probability (METHOD.md, section 14)",
    "exact": "weight under the method exact, in units of the score before its scale (METHOD.md, section 5)",
    "relative_every": "as relative, over every singular vector instead of the slice",
    "exact_every": "as exact, over every singular vector instead of the slice",
    "attribution": "attribution patching: what was written times the pattern's gradient through LayerNorm",
    "gradient": "the pattern's slope along what the writer put into the scores, LayerNorm's scale held",
    "own": "what section 14 says that the writer did at the source alone; null on the destination side",
}
_FALLS = {
    "fall": "by how much the pattern falls where the writer is taken out; src: at every key",
    "fall_in_slice": "as fall, taken out of what the slice of relative reads alone",
    "fall_rescaled": "as fall, with LayerNorm's scale computed anew from what is left",
    "fall_at_src": "by how much it falls where the writer is taken out at the source alone; null on the "
    "destination side",
    "fall_to_mean": "by how much it falls where what the writer put into the source's score becomes its mean over "
    "the keys; null on the destination side",
}
EFFECTS = described(
    *_FIRING,
    ("writer", pa.string(), "what is taken out: 4.11, mlp.3, attn_bias.3, embed, pos, const"),
    *((name, pa.float32(), text) for name, text in (_WEIGHTS | _FALLS).items()),
)
ORDERS = ("best", *METHODS["src"], "random")
SPELT = {
    "relative_every": "relative, every k",
    "exact_every": "exact, every k",
    "attribution": "attribution patching",
    "own": "relative, own",
}
"""Orders as they are written out; the others are called as they are."""
REMOVALS = described(
    *_FIRING,
    ("pattern", pa.float32(), "attention of the firing"),
    ("threshold", pa.float32(), "below it the head no longer fires"),
    ("best", pa.int32(), "writers that must go at least: all singles and pairs are tried, beyond them a greedy order; "
     "null in this and the next columns where an even pattern would still reach the threshold"),
    ("best_proven", pa.bool_(), "whether fewer are impossible: best is at most 3"),
    *((name, pa.int32(), f"writers that go until the head no longer fires, the largest {name} first")
      for name in METHODS["src"]),
    ("random", pa.float32(), "the same in random orders, mean over the draws"),
)  # fmt: skip
AGREEMENT = described(
    ("side", pa.string(), "dest or src"),
    ("counterfactual", pa.string(), "a fall's name in effects.parquet"),
    ("method", pa.string(), "a weight's name in effects.parquet"),
    ("firings", pa.int32(), "firings"),
    ("pairs", pa.int64(), "firings and writers, one value each"),
    ("correlation", pa.float64(), "Pearson correlation of weight and fall over all pairs; null where one is constant"),
    ("within", pa.float64(), "mean over firings of the correlation over the writers of one, which no firing's scale "
     "changes; null as before"),
)  # fmt: skip


def effects_table(found: Sequence[Measured], places: Sequence[np.ndarray], order: WriterOrder) -> pa.Table:
    """A row for every firing, side and writer.

    Args:
        places: the prompts' places in the input, for each of `found`.
    """
    return _sorted(
        [_effects(each, at, order, side) for each, at in zip(found, places, strict=True) for side in (0, 1)], EFFECTS
    )


def _effects(each: Measured, places: np.ndarray, order: WriterOrder, side: int) -> pa.Table:
    found, name = each.sides[side], SIDES[side]
    # The constant's row is the same at every key, and no candidate there.
    there = np.isfinite(found.weights[0, 0])
    n_firings, n_writers = len(each.firings), int(there.sum())
    columns = _firing_columns(each, places, name, n_writers)
    labels = np.asarray(order.labels)[each.writer[there]]
    columns["writer"] = np.tile(labels, n_firings)
    for names, values in ((METHODS[name], found.weights), (FALLS[name], found.falls)):
        columns |= {one: values[:, at][:, there].ravel().astype(np.float32) for at, one in enumerate(names)}
    return _filled(columns, EFFECTS, n_firings * n_writers)


def _firing_columns(each: Measured, places: np.ndarray, side: str, times: int) -> dict[str, Any]:
    firings = each.firings
    named = {name: np.repeat(getattr(firings, name), times) for name in ("layer", "head", "dest", "src")}
    return {"prompt": np.repeat(places[firings.prompt], times), **named, "side": [side] * (len(firings) * times)}


def _filled(columns: dict[str, Any], schema: pa.Schema, length: int) -> pa.Table:
    """The columns that a side has, and nulls for the others."""
    arrays = [
        pa.array(columns[field.name]).cast(field.type) if field.name in columns else pa.nulls(length, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def removals_table(found: Sequence[Measured], places: Sequence[np.ndarray]) -> pa.Table:
    """A row for every firing and side."""
    return _sorted(
        [_removals(each, at, side) for each, at in zip(found, places, strict=True) for side in (0, 1)], REMOVALS
    )


def _removals(each: Measured, places: np.ndarray, side: int) -> pa.Table:
    counts, name = each.sides[side].counts, SIDES[side]
    reached = each.threshold * (each.firings.dest + 1) > 1

    def told(values: Any) -> pa.Array:
        return pa.array(values, mask=~reached | (values == 0))

    columns = _firing_columns(each, places, name, 1)
    columns |= {"pattern": each.firings.pattern, "threshold": each.threshold, "random": told(counts.random)}
    columns |= {"best": told(counts.best), "best_proven": pa.array(counts.best <= PROVEN, mask=~reached)}
    columns |= {one: told(counts.by_method[:, at]) for at, one in enumerate(METHODS[name])}
    return _filled(columns, REMOVALS, len(each.firings))


def _sorted(parts: list[pa.Table], schema: pa.Schema) -> pa.Table:
    """By prompt, layer, head, dest, src and side; writers keep their order."""
    table = pa.concat_tables(parts) if parts else schema.empty_table()
    keys = [table[name].to_numpy() for name in ("src", "dest", "head", "layer", "prompt")]
    side = np.asarray(table["side"].to_pylist()) == "src"
    return table.take(pa.array(np.lexsort((side, *keys)))).combine_chunks()


def agreement_table(effects: pa.Table) -> pa.Table:
    """How far weights agree with falls, of each side, counterfactual and method."""
    side = np.asarray(effects["side"].to_pylist())
    keys = np.stack([effects[name].to_numpy() for name in ("prompt", "layer", "head", "dest", "src")], -1)
    rows = []
    for name in SIDES:
        mine = np.flatnonzero(side == name)
        firing = np.concatenate([[0], np.cumsum(np.any(np.diff(keys[mine], axis=0) != 0, axis=1))])[: len(mine)]
        values = {each: effects[each].to_numpy()[mine].astype(float) for each in (*METHODS[name], *FALLS[name])}
        for fall in FALLS[name]:
            for method in METHODS[name]:
                whole, within = correlations(values[method], values[fall], firing)
                count = int(firing[-1]) + 1 if len(firing) else 0
                rows.append((name, fall, method, count, len(mine), whole, within))
    columns = list(zip(*rows, strict=True))
    return pa.table([pa.array(each, field.type) for each, field in zip(columns, AGREEMENT, strict=True)], AGREEMENT)


def correlations(
    weight: Float[np.ndarray, " pair"], fall: Float[np.ndarray, " pair"], firing: np.ndarray
) -> tuple[float | None, float | None]:
    """Over all pairs, and the mean over firings of that over a firing's pairs.

    Args:
        firing: numbers from 0 on, one a pair.
    """
    whole = _correlation(weight, fall, np.zeros(len(weight), int))
    each = _correlation(weight, fall, firing)
    return (float(whole[0]) if len(whole) else None), (float(each.mean()) if len(each) else None)


def _correlation(x: np.ndarray, y: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Pearson's, of every group in which both vary."""
    count = np.maximum(np.bincount(group), 1)

    def centred(values: np.ndarray) -> np.ndarray:
        return values - (np.bincount(group, values) / count)[group]

    x, y = centred(x), centred(y)
    both = np.bincount(group, x * x) * np.bincount(group, y * y)
    varies = both > 0
    return np.bincount(group, x * y)[varies] / np.sqrt(both[varies])


def mean_removals(removals: pa.Table) -> dict[str, dict[str, Any]]:
    """How many writers must go on average, by side and order, and of how many firings that is; None where of none."""
    side = np.asarray(removals["side"].to_pylist())
    found = {}
    for name in SIDES:
        mine = removals.filter(pa.array(side == name))
        counted = mine.filter(mine["best"].is_valid())
        means = {}
        for order in ORDERS:
            values = counted[order].drop_null().to_numpy()
            if len(values) or order != "own" or name == "src":
                means[order] = float(values.mean()) if len(values) else None
        proven = counted["best_proven"].to_pylist()
        found[name] = {"firings": counted.num_rows, "proven": sum(map(bool, proven)), "writers": means}
    return found
