"""Rows counted together over tables that come one after another.

A sum is taken row by row in the order of the tables, so that it is the same number, to the last bit, however the rows
are cut into tables.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Num


class Names:
    """Strings as numbers, in the order in which they are first met."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}

    def of(self, column: pa.ChunkedArray) -> Int[np.ndarray, " row"]:
        """The number of every row's string; new ones are added.

        Args:
            column: of strings, none null.
        """
        encoded = column.combine_chunks().dictionary_encode()
        number = [self._number.setdefault(name, len(self._number)) for name in encoded.dictionary.to_pylist()]
        return np.asarray(number, int)[np.asarray(encoded.indices.to_numpy(), int)]

    def all(self) -> list[str]:
        """What the numbers stand for."""
        return list(self._number)


class Groups:
    """Rows that are equal in some columns of integers, numbered in the order in which they are first met."""

    def __init__(self) -> None:
        self._number: dict[tuple[int, ...], int] = {}

    def __len__(self) -> int:
        return len(self._number)

    def of(self, columns: Sequence[Int[np.ndarray, " row"]]) -> Int[np.ndarray, " row"]:
        """The group of every row; new ones are added.

        Args:
            columns: of integers from 0 on, the same ones at every call.
        """
        first, group = distinct_rows(columns)
        met = np.argsort(first)
        keys = np.stack([column[first[met]] for column in columns], axis=1).tolist()
        number = np.empty(len(first), int)
        number[met] = [self._number.setdefault(tuple(key), len(self._number)) for key in keys]
        return number[group]

    def columns(self, count: int) -> list[Int[np.ndarray, " group"]]:
        """The columns of the groups.

        Args:
            count: how many columns there are, also where there is no group.
        """
        return list(np.asarray(list(self._number), int).reshape(len(self), count).T)


def distinct_rows(
    columns: Sequence[Int[np.ndarray, " row"]],
) -> tuple[Int[np.ndarray, " group"], Int[np.ndarray, " row"]]:
    """Rows that are equal in all columns: the first row of each group, and each row's group.

    Args:
        columns: of integers from 0 on; the groups are in their order, the first column first.
    """
    key = np.zeros(len(columns[0]), int)
    for column in columns:
        key = key * (int(column.max(initial=0)) + 1) + column
    _, first, group = np.unique(key, return_index=True, return_inverse=True)
    return first, group


def distinct_prompts(
    group: Int[np.ndarray, " row"], prompt: Int[np.ndarray, " row"], n_groups: int
) -> Int[np.ndarray, " group"]:
    """Distinct prompts in each group.

    Args:
        group, prompt: of each row.
        n_groups: how many there are.
    """
    width = int(prompt.max(initial=0)) + 1
    return np.bincount(np.unique(group * width + prompt) // width, minlength=n_groups)


def grown(values: Num[np.ndarray, "*axes"], *shape: int) -> Num[np.ndarray, "*more"]:
    """The values, with zeros behind them up to a shape that is nowhere smaller.

    Args:
        values: of any shape.
        shape: the one wanted.
    """
    return np.pad(values, [(0, wanted - there) for wanted, there in zip(shape, values.shape, strict=True)])


def integers(column: pa.ChunkedArray) -> Int[np.ndarray, " row"]:
    """A column of integers, none null, as numpy's.

    Args:
        column: of a table.
    """
    return np.asarray(column.to_numpy(), int)
