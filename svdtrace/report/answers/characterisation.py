"""What the page draws of `svdtrace characterise`: slices, what τ costs, and the tokens that heads pick out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from svdtrace.report.answers.columns import columns
from svdtrace.report.answers.folders import Result

TOKENS = 12
"""Tokens named for each head and side."""
HEADS = 400
PROMPTS, CONTRAST = "prompts", "contrast"


def characterisation_json(result: Result) -> tuple[dict[str, Any], list[str]]:
    """The data of the section, and sentences on what it leaves out.

    Args:
        result: of `svdtrace characterise`.
    """
    heads = result.tables["heads"]
    sets = [name for name in (PROMPTS, CONTRAST) if name in set(heads["data_set"].to_pylist())]
    tokens, n_tokens = _tokens(result.tables["tokens"])
    facts = result.manifest.get("data_sets", {})
    numbers = ("firings", "idle_pairs", "mean_size", "idle_mean_size", "used", "auc_dest", "auc_src")
    most, dropped = _most_firing(heads)
    data = {
        "sets": [{"name": name, **_facts(facts.get(name, {}))} for name in sets],
        "heads": columns(most, ("data_set", "layer", "head", *numbers), 3),
        "sizes": _sizes(result.tables["sizes"], sets),
        "tau": columns(_over_all(result.tables["tau"]), ("data_set", "tau", "mean_size", "kept_median", "kept_of_sum")),
        "tokens": columns(tokens, ("layer", "head", "side", "rank", "string", "count", "norm", "named"), 3),
    }
    left_out = []
    if n_tokens > tokens.num_rows:
        left_out.append(f"Of the characterisation, tokens beyond the first {TOKENS} of each head and side.")
    if dropped:
        left_out.append(f"Of the characterisation, {dropped:,} heads that fire least.")
    return data, left_out


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts.get(name) for name in ("prompts", "firings", "idle_pairs", "mean_size", "idle_mean_size")}


def _most_firing(heads: pa.Table) -> tuple[pa.Table, int]:
    """Rows of the heads that fire most on either data set, and how many heads are left out."""
    layer, head, firings = (heads[name].to_numpy().astype(int) for name in ("layer", "head", "firings"))
    name, place = np.unique(layer * (int(head.max(initial=0)) + 1) + head, return_inverse=True)
    fired = np.zeros(len(name), int)
    np.maximum.at(fired, place, firings)
    rank = np.empty(len(name), int)
    rank[np.argsort(-fired, kind="stable")] = np.arange(len(name))
    return heads.filter(pa.array(rank[place] < HEADS)), max(0, len(name) - HEADS)


def _sizes(table: pa.Table, sets: list[str]) -> dict[str, dict[str, list[int]]]:
    """How many pairs have a slice of 0, 1, 2, … vectors, over all heads, by data set and whether the head fires."""
    longest = int(table["size"].to_numpy().max(initial=0)) + 1
    found = {}
    for name in sets:
        mine = table.filter(pc.field("data_set") == name)
        size, count, fires = (mine[column].to_numpy() for column in ("size", "count", "fires"))
        found[name] = {
            kind: np.bincount(size[chosen], count[chosen], longest).astype(int).tolist()
            for kind, chosen in (("firing", fires.astype(bool)), ("idle", ~fires.astype(bool)))
        }
    return found


def _over_all(tau: pa.Table) -> pa.Table:
    return tau.filter(pc.field("layer").is_null())


def _tokens(tokens: pa.Table) -> tuple[pa.Table, int]:
    """The first tokens of each head and side on the prompts, and how many rows there were."""
    mine = tokens.filter(pc.field("data_set") == PROMPTS)
    return mine.filter(pc.field("rank") <= TOKENS), mine.num_rows
