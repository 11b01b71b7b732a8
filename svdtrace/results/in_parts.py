"""Tables that come in parts, so that what is counted over them never needs more than one part in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa


@runtime_checkable
class Tables(Protocol):
    """The three tables of some prompts, with all firings and edges of these."""

    @property
    def prompts(self) -> pa.Table:
        """`prompts.parquet`."""
        ...

    @property
    def firings(self) -> pa.Table:
        """`firings.parquet`."""
        ...

    @property
    def edges(self) -> pa.Table:
        """`edges.parquet`."""
        ...


@runtime_checkable
class InParts(Protocol):
    """A trace, which is one part, or a sweep's folder, which may be of any number."""

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`."""
        ...

    def parts(self) -> Iterator[Tables]:
        """The parts in the order of their prompts, from the first one at every call.

        Hold none of them while the next one is asked for.
        """
        ...


@runtime_checkable
class Traced(Tables, InParts, Protocol):
    """A whole trace in memory: its tables, and itself as their only part."""


@runtime_checkable
class OnDisk(Protocol):
    """A part that reads no more of its tables than is asked for."""

    def columns(self, table: str, names: Sequence[str]) -> pa.Table:
        """See `columns`."""
        ...


def columns(part: Tables, table: str, names: Sequence[str]) -> pa.Table:
    """Some columns of a part's table, those of them that it has; of a part on disk no others are read.

    Args:
        part: of a trace.
        table: `prompts`, `firings` or `edges`.
        names: of the columns. Strings may come encoded.
    """
    if isinstance(part, OnDisk):
        return part.columns(table, names)
    whole: pa.Table = getattr(part, table)
    return whole.select([name for name in names if name in whole.column_names])


@dataclass(frozen=True)
class Watched:
    """A trace that tells of every part when it is asked for: how many are, and how many parts there are."""

    trace: InParts
    tell: Callable[[int, int], None]

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`."""
        return self.trace.manifest

    def parts(self) -> Iterator[Tables]:
        """See `InParts`."""
        # Nothing is read of parts that are only counted.
        many = sum(1 for _ in self.trace.parts())
        for place, part in enumerate(self.trace.parts(), 1):
            self.tell(place, many)
            yield part
            del part
