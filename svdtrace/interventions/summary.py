"""What interventions come to, edge by edge: mean effects with intervals, signals beside their controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.statistics import bootstrap_interval

EFFECTS = ("logit_difference", "score", "pattern")
SUMMARY = pa.schema(
    [
        *((name, pa.string()) for name in ("edges", "where", "direction", "control")),
        ("prompts", pa.int32()),
        ("seeds", pa.int32()),
        *((f"{name}{end}", pa.float64()) for name in (*EFFECTS, "kl") for end in ("", "_low", "_high")),
        *((name, pa.float64()) for name in ("norm_ratio", "cosine", "excess", "excess_low", "excess_high")),
        ("exceeds", pa.bool_()),
    ]
)
KEYS = ("edges", "where", "direction", "control")


def summarise(table: pa.Table, measures: pa.Table) -> pa.Table:
    """One row for every set of edges, place, direction and control, over the prompts in which it is edited.

    Effects are after − before, a control's averaged over its seeds in each prompt; `_low` and `_high` are the ends of
    their means' 95 % bootstrap intervals over prompts. `excess`, on rows of signals with controls, is by how much more
    the signal moves the logit difference than its controls: the mean of |its effect| − mean over seeds of |theirs|
    over the prompts whose controls all have as many vectors; `exceeds` says that the interval of that lies above 0.

    Args:
        table, measures: as `svdtrace.interventions.Interventions` has them.
    """
    values = _edited(table, measures)
    rows = []
    for key, part in values.items():
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True)) | {"prompts": len(part["kl"])}
        row["seeds"] = part["kl"].shape[1] if key[3] != "none" else 0
        for name in (*EFFECTS, "kl"):
            each = part[name].mean(axis=1)
            low, high = bootstrap_interval(each)
            row |= {name: _mean(each), f"{name}_low": low, f"{name}_high": high}
        row |= {name: _mean(part[name].mean(axis=1)) for name in ("norm_ratio", "cosine")}
        rows.append(row | _excess(values, key))
    return pa.Table.from_pylist([{name: _null(value) for name, value in row.items()} for row in rows], schema=SUMMARY)


def _edited(table: pa.Table, measures: pa.Table) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
    """Effects by key, [prompt seed], of the prompts that are edited."""
    codes, keys = _codes(table)
    columns = {
        name: table[f"{name}_after"].to_numpy().astype(float) - table[f"{name}_before"].to_numpy() for name in EFFECTS
    }
    columns |= {name: table[name].to_numpy().astype(float) for name in ("norm_ratio", "cosine")}
    columns["kl"] = measures["kl"].to_numpy().astype(float)
    columns["short"] = measures["short_control"].to_numpy(zero_copy_only=False).astype(float)
    edited, prompt = table["edited"].to_numpy(zero_copy_only=False), table["prompt"].to_numpy()
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes, minlength=len(keys)))[:-1])
    found = {}
    for key, rows in zip(keys, parts, strict=True):
        # Rows are sorted by prompt, and a prompt has one for each seed.
        seeds = max(1, int(np.bincount(prompt[rows]).max(initial=1)))
        kept = rows[edited[rows]]
        found[key] = {name: values[kept].reshape(-1, seeds) for name, values in columns.items()}
    return found


def _codes(table: pa.Table) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Numbers of the rows' keys, in the order in which keys come first, and the keys."""
    parts = [table[name].combine_chunks().dictionary_encode() for name in KEYS]
    parts = [part.chunk(0) if isinstance(part, pa.ChunkedArray) else part for part in parts]
    sizes = [max(1, len(part.dictionary)) for part in parts]
    flat = np.ravel_multi_index([part.indices.to_numpy() for part in parts], sizes)
    distinct, first, codes = np.unique(flat, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))
    keys = [
        tuple(
            part.dictionary[int(place)].as_py()
            for part, place in zip(parts, np.unravel_index(each, sizes), strict=True)
        )
        for each in distinct[np.argsort(first)]
    ]
    return rank[codes.reshape(-1)], keys


def _excess(values: dict[tuple[str, ...], dict[str, np.ndarray]], key: tuple[str, ...]) -> dict[str, Any]:
    """By how much a signal's effect exceeds its controls'; nothing on the controls' own rows."""
    controls = [other for other in values if other[:3] == key[:3] and other[3] != "none"]
    if key[3] != "none" or not controls:
        return {}
    own = np.abs(values[key]["logit_difference"]).mean(axis=1)
    other = values[controls[0]]
    more = own - np.abs(other["logit_difference"]).mean(axis=1)
    # A control of fewer vectors than the signal's is none to be exceeded.
    more = more[~(other["short"] > 0).any(axis=1)]
    low, high = bootstrap_interval(more)
    exceeds = None if np.isnan(low) else bool(low > 0)
    return {"excess": _mean(more), "excess_low": low, "excess_high": high, "exceeds": exceeds}


def _mean(values: np.ndarray) -> float:
    """The mean of what is defined; NaN where nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
