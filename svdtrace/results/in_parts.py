"""Tables that come in parts, so that what is counted over them never needs more than one part in memory."""

from __future__ import annotations

from collections.abc import Iterator
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
