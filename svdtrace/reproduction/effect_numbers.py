"""What becomes of the logit difference when a set of edges is taken away: means, and prompt by prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from svdtrace.reproduction.asked import EFFECT, EFFECT_SHARE
from svdtrace.reproduction.comparison import Key, Measured
from svdtrace.reproduction.edge_sets import label
from svdtrace.reproduction.firing_numbers import Firings

Place = tuple[str, str]
"""A set's description, and where its edges were taken away."""


def effect_numbers(
    effects: pa.Table, sets: Mapping[str, Sequence[str]], firings: Firings, published: pa.Table | None
) -> dict[Key, Measured]:
    """Means over the prompts in which an edge of the set is there, and in how many prompts the effect is the published.

    Args:
        effects: of `reproduce`, its column `edges` the description of the set.
        sets: the names of each set's edges.
        firings: which say in how many prompts rounding decides what is edited.
        published: the effects that were published.
    """
    found: dict[Key, Measured] = {}
    known = {} if published is None else _by_set(published)
    for (text, where), each in _by_set(effects).items():
        doubtful, tied = _loose(sets[text], firings)
        edited = each["edited"].astype(bool)
        change = _change(each)
        topic, name = f"{where} effect", label(text)
        found[topic, f"{name} prompts"] = Measured(int(edited.sum()), len(doubtful))
        means = {"change": change, "cosine": each["cosine"], "norm ratio": each["norm_ratio"]}
        for what, values in means.items():
            if edited.any():
                found[topic, f"{name} {what}"] = Measured(float(np.nanmean(values[edited])))
        if (text, where) in known:
            loose = doubtful | tied
            agree = _same(change, each["prompt"], known[text, where]) | loose
            note = f"{len(loose)} near a tie are not held to it" if loose else ""
            found[topic, f"{name} prompts within tolerance"] = Measured(len(agree), 0, note)
    return found


def _same(change: np.ndarray, prompt: np.ndarray, published: Mapping[str, np.ndarray]) -> set[int]:
    """Prompts whose change is within its tolerance of the published one."""
    expected = dict(zip(published["prompt"].tolist(), _change(published).tolist(), strict=True))
    return {
        number
        for number, own in zip(prompt.tolist(), change.tolist(), strict=True)
        if number in expected and abs(own - expected[number]) <= max(EFFECT, EFFECT_SHARE * abs(expected[number]))
    }


def _change(each: Mapping[str, np.ndarray]) -> np.ndarray:
    return each["logit_difference_after"].astype(float) - each["logit_difference_before"].astype(float)


def _loose(names: Sequence[str], firings: Firings) -> tuple[set[int], set[int]]:
    """Prompts in which it depends on rounding whether an edge of a set is there, and how its slice is cut."""
    pairs = {name.partition(":")[2].partition("/")[0] for name in names}
    doubtful = set().union(*(firings.doubtful_prompts(pair) for pair in pairs))
    return doubtful, set().union(*(firings.tied_prompts(pair) for pair in pairs))


def _by_set(effects: pa.Table) -> dict[Place, dict[str, np.ndarray]]:
    """Columns of each set's rows."""
    names = ("prompt", "logit_difference_before", "logit_difference_after", "edited", "norm_ratio", "cosine")
    columns = {name: effects[name].to_numpy(zero_copy_only=False) for name in names}
    rows: dict[Place, list[int]] = {}
    for row, place in enumerate(zip(effects["edges"].to_pylist(), effects["where"].to_pylist(), strict=True)):
        rows.setdefault(place, []).append(row)
    return {place: {name: column[own] for name, column in columns.items()} for place, own in rows.items()}
