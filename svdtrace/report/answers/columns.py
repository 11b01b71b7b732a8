"""Tables as the page's data holds them: columns of short numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from svdtrace.errors import TraceFolderError
from svdtrace.report.numbers import all_rounded


def columns(table: pa.Table, names: Sequence[str], digits: int = 4) -> dict[str, list[Any]]:
    """Columns of a table, floats to some significant digits.

    Args:
        table: any.
        names: of its columns.
        digits: significant ones.

    Raises:
        TraceFolderError: a column is missing.
    """
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise TraceFolderError(f"a result lacks the columns {', '.join(missing)}; make it anew with this version")
    return {name: _column(table[name], digits) for name in names}


def _column(column: pa.ChunkedArray, digits: int) -> list[Any]:
    if pa.types.is_floating(column.type):
        return all_rounded(column.cast(pa.float64()).to_numpy(), digits)
    return column.to_pylist()


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the largest values, in the order in which they stand.

    Args:
        values: numbers; NaN is smallest.
        count: how many at most.
    """
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")[:count]
    return np.sort(order)
