"""How well weights alone predict a trace's edges: where the chosen writers stand among all earlier heads.

Only writers of one reader on one side are compared, so that no reader's or side's level counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from svdtrace.atlas.medians import ranks
from svdtrace.atlas.schemas import filled, from_rows
from svdtrace.atlas.surveying import READ_SIDES
from svdtrace.atlas.tabulating import Pairs, head_names, names_at
from svdtrace.results.in_parts import InParts, columns
from svdtrace.statistics import roc_auc

MEASURES = ("score", "excess", "beyond")
_ENDS = ("writer_layer", "writer_head", "layer", "head")


def edge_counts(trace: InParts, n_layers: int, n_heads: int) -> Int[np.ndarray, "read_side reader writer"]:
    """How many edges of a trace lead from each head to each reader's query (its side dest) and key (src)."""
    many = n_layers * n_heads
    counts = np.zeros((2, many, many), np.int64)
    for part in trace.parts():
        edges = columns(part, "edges", (*_ENDS, "side"))
        edges = edges.filter(pc.field("writer_head").is_valid())
        writer_layer, writer_head, layer, head = (edges[name].to_numpy().astype(int) for name in _ENDS)
        side = (edges["side"].cast(pa.string()).to_numpy() == "src").astype(int)
        np.add.at(counts, (side, layer * n_heads + head, writer_layer * n_heads + writer_head), 1)
    return counts


def prediction_tables(
    counts: Int[np.ndarray, "read_side reader writer"], pairs: Pairs, n_heads: int
) -> tuple[pa.Table, pa.Table]:
    """`prediction.parquet` and `chosen.parquet`.

    Args:
        counts: from `edge_counts`.
        n_heads: in a layer.
    """
    values = {name: getattr(pairs, name)[:2] for name in MEASURES}
    standing = {name: ranks(each) for name, each in values.items()}
    rows = [
        row
        for name in MEASURES
        for side in range(2)
        for row in _of_side(name, side, counts[side], values[name][side], standing[name][side], n_heads)
    ]
    side, reader, writer = np.nonzero(counts)
    chosen = {
        "writer": names_at(head_names(counts.shape[1] // n_heads, n_heads), writer),
        "layer": reader // n_heads,
        "head": reader % n_heads,
        "side": names_at(READ_SIDES, side),
        "edges": counts[side, reader, writer],
        "writers": reader // n_heads * n_heads,
    }
    for name in MEASURES:
        placed = standing[name][side, reader, writer]
        chosen[f"rank_{name}"] = pa.array(placed, mask=placed == 0)
    return from_rows("prediction", rows), filled("chosen", chosen)


def _of_side(
    name: str,
    side: int,
    counts: Int[np.ndarray, "reader writer"],
    values: Float[np.ndarray, "reader writer"],
    standing: Int[np.ndarray, "reader writer"],
    n_heads: int,
) -> list[dict[str, Any]]:
    """All readers together, then each that edges lead to."""
    rows = [_of_reader(counts[reader], values[reader], standing[reader]) for reader in np.flatnonzero(counts.any(-1))]
    heads = [divmod(int(reader), n_heads) for reader in np.flatnonzero(counts.any(-1))]
    same = {"measure": name, "side": READ_SIDES[side]}
    return [
        {**same, "layer": layer, "head": head, **row}
        for (layer, head), row in zip([(None, None), *heads], [_together(rows), *rows], strict=True)
    ]


def _of_reader(
    counts: Int[np.ndarray, " writer"], values: Float[np.ndarray, " writer"], standing: Int[np.ndarray, " writer"]
) -> dict[str, Any]:
    there = ~np.isnan(values)
    counts, values, standing = counts[there], values[there], standing[there]
    chosen = counts > 0
    # Every edge's writer against the writers that no edge names.
    above = np.asarray([_above(value, values[~chosen]) for value in values[chosen]])
    return {
        "writers": len(counts),
        "chosen": int(chosen.sum()),
        "edges": int(counts.sum()),
        "auc": roc_auc(values, chosen),
        "auc_edges": float(above @ counts[chosen] / counts.sum()) if chosen.any() and not chosen.all() else np.nan,
        "median_rank": float(np.median(np.repeat(standing, counts))) if chosen.any() else np.nan,
        "_ranks": np.repeat(standing, counts),
    }


def _above(value: float, others: Float[np.ndarray, " other"]) -> float:
    return float(((others < value) + 0.5 * (others == value)).mean()) if len(others) else np.nan


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums; AUCs are means over pairs of a chosen and another writer, those by edges over edges."""
    known = [row for row in rows if not np.isnan(row["auc"])]
    placed = np.concatenate([np.zeros(0, int), *(row["_ranks"] for row in rows)])

    def mean(name: str, weights: list[int]) -> float:
        return float(np.average([row[name] for row in known], weights=weights)) if known else np.nan

    return {
        **{name: sum(row[name] for row in rows) for name in ("writers", "chosen", "edges")},
        "auc": mean("auc", [row["chosen"] * (row["writers"] - row["chosen"]) for row in known]),
        "auc_edges": mean("auc_edges", [row["edges"] for row in known]),
        "median_rank": float(np.median(placed)) if len(placed) else np.nan,
    }
