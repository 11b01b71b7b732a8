"""Results numbered as the lines of their input are, where some of these were passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from svdtrace.tracing import tables as columns
from svdtrace.tracing.near_ties import renumbered

_NAMING = ("near_ties", "not_finite")


def at_places(tables: Mapping[str, pa.Table], places: Sequence[int]) -> dict[str, pa.Table]:
    """Tables with their prompts called by their places in the input; those without a column `prompt` as they are."""
    return {
        name: columns.at_places(table, places) if "prompt" in table.column_names else table
        for name, table in tables.items()
    }


def said_at_places(manifest: Mapping[str, Any], places: Sequence[int], prompts: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest that names prompts by their places in the input.

    Args:
        prompts: what else is to be said of them under this name, such as how many records of the input are `rejected`.
    """
    told = named_at_places(manifest, places)
    told["prompts"] = told["prompts"] | dict(prompts)
    # What was held against chance names prompts of its own.
    return told | ({"chance": named_at_places(told["chance"], places)} if "chance" in told else {})


def named_at_places(said: Mapping[str, Any], places: Sequence[int]) -> dict[str, Any]:
    """What is said of some prompts, those that are named called by their places in the input."""
    named = {name: said[name] for name in _NAMING if name in said}
    return {**said, **{name: each | {"named": renumbered(each["named"], places)} for name, each in named.items()}}
