"""From what was gathered to the tables of `schemas`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.characterisation.projections import span_overlaps
from svdtrace.characterisation.schemas import SCHEMAS, filled, from_rows
from svdtrace.characterisation.task_tokens import TokenNorms
from svdtrace.characterisation.usage import TAUS, HeadFirings, HeadUsage
from svdtrace.method.decomposition import Decomposition
from svdtrace.tracing.rows import SIDES

USED_SHARE = 0.5
"""A head uses a vector that is in at least this share of its firings' slices."""
Sets = dict[str, HeadUsage]


def used_vectors(usage: HeadUsage) -> np.ndarray:
    """Which vectors every head uses, [layer head sv]: those in half of its slices, else the one most often in them."""
    shape = usage.model.n_layers, usage.model.n_heads, usage.model.d_head
    times = np.zeros(shape, np.int64)
    where = usage.firings.where
    np.add.at(times, (where.layer, where.head), usage.firings.members)
    count = usage.count[..., None]
    most = (times == times.max(axis=-1, keepdims=True)) & (np.cumsum(times == times.max(-1, keepdims=True), -1) == 1)
    often = (times >= USED_SHARE * count) & (times > 0)
    return np.where(often.any(axis=-1, keepdims=True), often, most & (times > 0))


def heads_table(sets: Sets, used: dict[str, np.ndarray], aucs: dict[tuple, float]) -> pa.Table:
    """`heads.parquet`; `aucs` by (data set, side, layer, head)."""
    rows = []
    for name, usage in sets.items():
        for layer, head, firings in _each_head(usage):
            idle = usage.idle[layer, head]
            sizes = np.bincount(firings.size, minlength=len(idle))
            rows.append(
                {
                    "data_set": name,
                    "layer": layer,
                    "head": head,
                    "firings": len(firings),
                    "firings_any_score": int(usage.count_any_score[layer, head]),
                    "idle_pairs": int(idle.sum()),
                    "mean_size": _mean(sizes),
                    "median_size": _median(sizes),
                    "idle_mean_size": _mean(idle),
                    "idle_median_size": _median(idle),
                    "used": np.flatnonzero(used[name][layer, head]).tolist() if len(firings) else [],
                    **{f"auc_{side}": aucs.get((name, side, layer, head), np.nan) for side in SIDES},
                }
            )
    return from_rows("heads", rows)


def sizes_table(sets: Sets) -> pa.Table:
    """`sizes.parquet`."""
    parts = []
    for name, usage in sets.items():
        fired = np.zeros_like(usage.idle)
        where = usage.firings.where
        np.add.at(fired, (where.layer, where.head, usage.firings.size), 1)
        for fires, counts in ((True, fired), (False, usage.idle)):
            layer, head, size = np.nonzero(counts)
            columns = {"layer": layer, "head": head, "size": size, "count": counts[layer, head, size]}
            parts.append(filled("sizes", {**columns, "data_set": [name] * len(size), "fires": [fires] * len(size)}))
    return pa.concat_tables(parts)


def vectors_table(sets: Sets, decomposition: Decomposition) -> pa.Table:
    """`vectors.parquet`."""
    parts = []
    S = np.asarray(decomposition.S)
    for name, usage in sets.items():
        layer, head, k = (each.reshape(-1) for each in np.indices(S.shape))
        times, products = np.zeros(S.shape, np.int64), np.zeros(S.shape)
        where = usage.firings.where
        np.add.at(times, (where.layer, where.head), usage.firings.members)
        np.add.at(products, (where.layer, where.head), usage.firings.products)
        with np.errstate(invalid="ignore"):
            share, mean = (each / usage.count[..., None] for each in (times, products))
        columns = {"sigma": S, "firings": times, "share": share, "mean_product": mean}
        flat = {each: values.reshape(-1) for each, values in columns.items()}
        parts.append(filled("vectors", {**flat, "data_set": [name] * S.size, "layer": layer, "head": head, "k": k}))
    return pa.concat_tables(parts)


def vectors_by_prompt_table(sets: Sets) -> pa.Table:
    """`vectors_by_prompt.parquet`."""
    parts = []
    for name, usage in sets.items():
        where = usage.firings.where
        keys = np.stack([where.prompt, where.layer, where.head], axis=-1)
        groups, of, count = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
        times = np.zeros((len(groups), usage.model.d_head), np.int64)
        np.add.at(times, of.reshape(-1), usage.firings.members)
        group, k = np.nonzero(times)
        columns = dict(zip(("prompt", "layer", "head"), groups[group].T, strict=True))
        columns["prompt"] = usage.places[columns["prompt"]]
        columns |= {"k": k, "times": times[group, k], "firings": count[group]}
        parts.append(filled("vectors_by_prompt", {**columns, "data_set": [name] * len(k)}))
    return pa.concat_tables(parts)


def tau_table(sets: Sets) -> pa.Table:
    """`tau.parquet`."""
    rows = []
    for name, usage in sets.items():
        groups = [(None, None, usage.firings), *(each for each in _each_head(usage) if len(each[2]))]
        for layer, head, firings in groups:
            total = float(firings.total.sum())
            kept = np.where(firings.total[:, None] != 0, firings.kept_at, np.nan)
            for place, tau in enumerate(TAUS):
                here = kept[:, place]
                known = here[~np.isnan(here)]
                rows.append(
                    {
                        "data_set": name,
                        "layer": layer,
                        "head": head,
                        "tau": tau,
                        "firings": len(firings),
                        "mean_size": float(firings.size_at[:, place].mean()) if len(firings) else np.nan,
                        "kept_median": float(np.median(known)) if len(known) else np.nan,
                        "kept_of_sum": float(np.nansum(here * firings.total) / total) if total else np.nan,
                    }
                )
    return from_rows("tau", rows)


def overlaps_table(sets: Sets, used: dict[str, np.ndarray], decomposition: Decomposition) -> pa.Table:
    """`overlaps.parquet`: heads that fire, each pair once."""
    parts = []
    for name, usage in sets.items():
        found = [span_overlaps(np.asarray(each), used[name]) for each in (decomposition.U, decomposition.V)]
        one, other = np.nonzero(np.triu(~np.isnan(found[0]), 1))
        layer, head = np.divmod(one, usage.model.n_heads)
        other_layer, other_head = np.divmod(other, usage.model.n_heads)
        columns = {"layer": layer, "head": head, "other_layer": other_layer, "other_head": other_head}
        columns |= {side: values[one, other] for side, values in zip(SIDES, found, strict=True)}
        parts.append(filled("overlaps", {**columns, "data_set": [name] * len(one)}))
    return pa.concat_tables(parts)


def tokens_table(
    norms: dict[str, TokenNorms], heads: Sequence[tuple[int, int]], names: frozenset[int]
) -> tuple[pa.Table, dict[tuple, float]]:
    """`tokens.parquet` for the heads given, and the AUC by (data set, side, layer, head)."""
    parts, aucs = [SCHEMAS["tokens"].empty_table()], {}
    for name, found in norms.items():
        for layer, head in heads:
            for side in SIDES:
                ranked = found.of_head(side, layer, head)
                auc = aucs[name, side, layer, head] = ranked.auc(names)
                count = len(ranked.tokens)
                same: dict[str, Any] = {"data_set": name, "layer": layer, "head": head, "side": side, "auc": auc}
                columns = {each: [value] * count for each, value in same.items()}
                columns |= {"rank": np.arange(1, count + 1), "token": ranked.tokens, "string": list(ranked.strings)}
                columns |= {"count": ranked.count, "norm": ranked.norm, "named": np.isin(ranked.tokens, list(names))}
                parts.append(filled("tokens", columns))
    return pa.concat_tables(parts), aucs


def _each_head(usage: HeadUsage) -> Iterator[tuple[int, int, HeadFirings]]:
    where = usage.firings.where
    place = where.layer * usage.model.n_heads + where.head
    order = np.argsort(place, kind="stable")
    start = np.searchsorted(place[order], np.arange(usage.model.n_layers * usage.model.n_heads + 1))
    for each in range(len(start) - 1):
        layer, head = divmod(each, usage.model.n_heads)
        yield layer, head, usage.firings.take(order[start[each] : start[each + 1]])


def _mean(counts: np.ndarray) -> float:
    return float((counts * np.arange(len(counts))).sum() / counts.sum()) if counts.sum() else np.nan


def _median(counts: np.ndarray) -> float:
    """The lower median of sizes given by how often each occurs."""
    return float(np.searchsorted(np.cumsum(counts), counts.sum() / 2)) if counts.sum() else np.nan
