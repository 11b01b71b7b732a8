"""What interventions come to, edge by edge: mean effects with intervals, signals beside their controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.explaining.effects import LEAST_EFFECT
from svdtrace.interventions.tables import EDIT
from svdtrace.results.columns import described
from svdtrace.statistics import benjamini_hochberg, bootstrap_interval, mean_above_zero

FALSE_DISCOVERIES = 0.05
"""Share of the signals said to exceed their controls that may do so by chance."""
EFFECTS = {
    "logit_difference": "change of the logit difference, after - before",
    "score": "change of the reader's attention score",
    "pattern": "change of the reader's attention probability",
}
_MEANS = EFFECTS | {"kl": "KL(clean || edited) of the next token's distribution, in nats"}
SUMMARY = described(
    *EDIT,
    ("prompts", pa.int32(), "prompts that were edited; means and intervals are over these"),
    ("seeds", pa.int32(), "seeds of the control, over which each prompt is averaged; 0 without control"),
    *(
        (f"{name}{end}", pa.float64(), f"{which}{what}")
        for name, what in _MEANS.items()
        for end, which in {
            "": "mean ",
            "_low": "lower end of the mean's 95 % bootstrap interval: ",
            "_high": "upper end of the mean's 95 % bootstrap interval: ",
        }.items()
    ),
    ("norm_ratio", pa.float64(), "mean norm of what was edited, after over before"),
    ("cosine", pa.float64(), "mean cosine between what was edited before and after"),
    ("clean", pa.float64(), "mean logit difference before the edit, over the prompts that were edited"),
    (
        "excess",
        pa.float64(),
        "by how much more the signal moves the logit difference than its controls: mean of |its effect| - mean over "
        "seeds of |theirs|, over the prompts whose controls all have as many vectors; null on controls and without any",
    ),
    ("excess_low", pa.float64(), "lower end of the excess's 95 % bootstrap interval"),
    ("excess_high", pa.float64(), "upper end of the excess's 95 % bootstrap interval"),
    (
        "p_value",
        pa.float64(),
        "Student's one-sided test that the excess is not above 0; null for fewer than two prompts",
    ),
    ("q_value", pa.float64(), "Benjamini-Hochberg over all signals of this table that have a p-value"),
    (
        "exceeds",
        pa.bool_(),
        f"more than chance: q_value is at most {FALSE_DISCOVERIES} and |logit_difference| above {LEAST_EFFECT} times "
        "|clean|; null without q_value",
    ),
)
KEYS = tuple(name for name, *_ in EDIT)


def summarise(table: pa.Table, measures: pa.Table) -> pa.Table:
    """One row for every set of edges, place, direction and control, over the prompts in which it is edited (`SUMMARY`).

    Many edges are tested at once, and the answer is a list of those that exceed their controls: so what is bounded is
    the share of that list that is there by chance (Benjamini & Hochberg), not the chance of a single error in it.

    Args:
        table, measures: as `svdtrace.interventions.Interventions` has them.
    """
    values = _edited(table, measures)
    rows = []
    for key, part in values.items():
        row: dict[str, Any] = dict(zip(KEYS, key, strict=True)) | {"prompts": len(part["kl"])}
        row["seeds"] = part["kl"].shape[1] if key[3] != "none" else 0
        for name in _MEANS:
            each = part[name].mean(axis=1)
            low, high = bootstrap_interval(each)
            row |= {name: _mean(each), f"{name}_low": low, f"{name}_high": high}
        row |= {name: _mean(part[name].mean(axis=1)) for name in ("norm_ratio", "cosine", "clean")}
        rows.append(row | _excess(values, key))
    rows = _judged(rows)
    return pa.Table.from_pylist([{name: _null(value) for name, value in row.items()} for row in rows], schema=SUMMARY)


def _judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with `q_value` and `exceeds`, where they have a p-value."""
    q_values = benjamini_hochberg(np.asarray([row.get("p_value", np.nan) for row in rows], float))
    return [
        row if np.isnan(q) else row | {"q_value": float(q), "exceeds": bool(q <= FALSE_DISCOVERIES) and _matters(row)}
        for row, q in zip(rows, q_values, strict=True)
    ]


def _matters(row: dict[str, Any]) -> bool:
    return abs(row["logit_difference"]) > LEAST_EFFECT * abs(row["clean"])


def _edited(table: pa.Table, measures: pa.Table) -> dict[tuple[str, ...], dict[str, np.ndarray]]:
    """Effects by key, [prompt seed], of the prompts that are edited."""
    codes, keys = _codes(table)
    columns = {
        name: table[f"{name}_after"].to_numpy().astype(float) - table[f"{name}_before"].to_numpy() for name in EFFECTS
    }
    columns |= {name: table[name].to_numpy().astype(float) for name in ("norm_ratio", "cosine")}
    columns["clean"] = table["logit_difference_before"].to_numpy().astype(float)
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
    return {"excess": _mean(more), "excess_low": low, "excess_high": high, "p_value": mean_above_zero(more)}


def _mean(values: np.ndarray) -> float:
    """The mean of what is defined; NaN where nothing is."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
