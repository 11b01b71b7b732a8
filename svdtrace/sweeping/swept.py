"""What a sweep's folder holds, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from svdtrace.results.emptiness import LAYER_0
from svdtrace.sweeping import parts
from svdtrace.tracing import tables
from svdtrace.tracing.rounding import ROUNDING


@dataclass(frozen=True)
class Swept:
    """The whole parts of a sweep, those that were there when its folder was opened.

    `manifest` has the counts of these parts, which may be ahead of the one on disk.
    """

    folder: Path
    numbers: tuple[int, ...]
    manifest: dict[str, Any]

    def parts(self) -> Iterator[PartTables]:
        """The parts in the order of their prompts (see `svdtrace.results.in_parts`).

        Raises:
            TraceFolderError: from a part's tables, one cannot be read.
        """
        return (PartTables(self.folder, number) for number in self.numbers)


@dataclass(frozen=True)
class PartTables:
    """One part; a table is read when it is first asked for, and kept no longer than the part is."""

    folder: Path
    number: int

    @cached_property
    def prompts(self) -> pa.Table:
        """`prompts/part-….parquet`."""
        return tables.with_nulls(parts.table(self.folder, "prompts", self.number), tables.PROMPTS)

    @cached_property
    def firings(self) -> pa.Table:
        """`firings/part-….parquet`."""
        return tables.with_roles(self.prompts, parts.table(self.folder, "firings", self.number))

    @cached_property
    def edges(self) -> pa.Table:
        """`edges/part-….parquet`."""
        return tables.with_roles(self.prompts, parts.table(self.folder, "edges", self.number))

    def columns(self, table: str, names: Sequence[str]) -> pa.Table:
        """See `svdtrace.results.in_parts.columns`."""
        found = parts.table(self.folder, table, self.number, names)
        if tables.ROLES.keys() & set(names) <= set(found.column_names):
            return found
        return tables.with_roles(self.prompts, getattr(self, table)).select(names)


def opened(folder: Path, manifest: dict[str, Any]) -> Swept:
    """A sweep's folder, whose manifest says what was asked for.

    Raises:
        TraceFolderError: a part is damaged.
    """
    numbers = tuple(parts.numbers(folder))
    there = parts.in_all([parts.read(folder, number) for number in numbers])
    tally = there.tally
    counted = {
        "prompts": manifest["prompts"] | {"count": tally.prompts, "rejected": tally.rejected},
        "counts": {
            "firings": tally.firings,
            "edges": tally.edges,
            "firings_per_head": there.firings_per_head,
            LAYER_0: tally.of_layer_0,
        },
        "not_finite": parts.not_finite(there),
        "near_ties": parts.near_ties(there),
        "paths_saturated": tally.paths_saturated,
        **({} if there.rounding is None else {ROUNDING: there.rounding}),
    }
    return Swept(folder, numbers, manifest | counted)
