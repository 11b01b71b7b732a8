"""Firings and edges as data frames, with names beside numbers."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pyarrow as pa

from svdtrace.errors import FrameError

LIBRARIES = ("pandas", "polars")
"""The first that is installed is taken."""


def firings_frame(prompts: pa.Table, firings: pa.Table) -> Any:
    """Firings with `name` (the head, `4.11`), `dest_string` and `src_string` behind the table's own columns.

    Raises:
        FrameError: neither pandas nor polars is installed.
    """
    table = firings.append_column("name", heads(firings))
    return _frame(_with_strings(prompts, table, ("dest", "src")))


def edges_frame(prompts: pa.Table, edges: pa.Table) -> Any:
    """Edges with `reader` (the head, `4.11`), `token_string`, `dest_string` and `src_string` behind the table's own.

    Raises:
        FrameError: neither pandas nor polars is installed.
    """
    table = edges.append_column("reader", heads(edges))
    return _frame(_with_strings(prompts, table, ("token", "dest", "src")))


def heads(rows: pa.Table) -> pa.Array:
    """`4.11` of every row."""
    both = zip(rows["layer"].to_pylist(), rows["head"].to_pylist(), strict=True)
    return pa.array([f"{layer}.{head}" for layer, head in both], pa.string())


def _with_strings(prompts: pa.Table, rows: pa.Table, places: tuple[str, ...]) -> pa.Table:
    """The text of the tokens at some positions."""
    strings = dict(zip(prompts["prompt"].to_pylist(), prompts["strings"].to_pylist(), strict=True))
    number = rows["prompt"].to_pylist()
    for place in places:
        texts = [strings[prompt][at] for prompt, at in zip(number, rows[place].to_pylist(), strict=True)]
        rows = rows.append_column(f"{place}_string", pa.array(texts, pa.string()))
    return rows


def _frame(table: pa.Table) -> Any:
    found = next((name for name in LIBRARIES if find_spec(name) is not None), None)
    if found is None:
        raise FrameError("data frames need pandas or polars; pip install pandas, or polars, or use the table itself")
    if found == "pandas":
        return table.to_pandas()
    return import_module("polars").from_arrow(table)
