"""Published beside measured: rows, each inside or outside of a tolerance that says where it comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import pyarrow as pa

from svdtrace.results.columns import described

Key = tuple[str, str]
"""Topic and name of a number."""
TOO_SMALL = "cannot tell from 0"
ROWS = described(
    ("topic", pa.string(), "what the number is about"),
    ("name", pa.string(), "the number's name within its topic"),
    ("published", pa.float64(), "as it was published; null where it was not"),
    ("measured", pa.float64(), "as it was measured; null where it was not"),
    ("tolerance", pa.float64(), "how far apart the two may be; null where there is nothing to compare"),
    ("inside", pa.bool_(), "whether they are no farther apart; null where there is nothing to compare"),
    ("note", pa.string(), "where the tolerance comes from, or what else there is to the number"),
)


@dataclass(frozen=True)
class Measured:
    """A number as it was measured, with the slack that ties leave; `note` says what else there is to it."""

    value: float
    slack: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Expected:
    """A published number, and how far from it is still the same, ties aside; `note` says what that can tell."""

    value: float
    tolerance: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One number: published, measured, and whether they are `tolerance` or less apart (`None`: nothing to compare)."""

    topic: str
    name: str
    published: float | None
    measured: float | None
    tolerance: float | None
    inside: bool | None
    note: str


def compared(published: Mapping[Key, Expected], measured: Mapping[Key, Measured]) -> tuple[Row, ...]:
    """A row for every published number and, where nothing is published, for every measured one.

    What was published and could not be measured is outside.
    """
    return tuple(_row(key, published.get(key), measured.get(key)) for key in published or measured)


def rows_table(rows: Sequence[Row]) -> pa.Table:
    """`reproduction.parquet`."""
    names = [field.name for field in fields(Row)]
    return pa.Table.from_pylist([{name: getattr(row, name) for name in names} for row in rows], schema=ROWS)


def _row(key: Key, expected: Expected | None, found: Measured | None) -> Row:
    value, note = (None, "not measured") if found is None else (found.value, found.note)
    if expected is None:
        return Row(*key, None, value, None, None, note)
    tolerance = expected.tolerance + (0.0 if found is None else found.slack)
    inside = value is not None and abs(value - expected.value) <= tolerance
    return Row(*key, expected.value, value, tolerance, inside, note or expected.note)
