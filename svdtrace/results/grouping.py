"""Rows counted together over tables that come one after another.

A sum is taken row by row in the order of the tables, so that it is the same number, to the last bit, however the rows
are cut into tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Num

ROOM, ROOM_PER_ROW = 2**22, 4
"""How large a table of all keys may be, and by how much more for each row, before sorting them takes less memory."""


class Names:
    """Strings as numbers, in the order in which they are first met."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._number = {name: number for number, name in enumerate(names)}

    def number(self, name: str) -> int:
        """The number of one string, which is added where it is new."""
        return self._number.setdefault(name, len(self._number))

    def of(self, column: pa.ChunkedArray) -> Int[np.ndarray, " row"]:
        """The number of every row's string; new ones are added.

        Args:
            column: of strings, none null.
        """
        encoded = column.combine_chunks().dictionary_encode()
        number = [self.number(name) for name in encoded.dictionary.to_pylist()]
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


class Keys:
    """Integers numbered as they are met, by arrays rather than one by one, for groups that are very many."""

    def __init__(self) -> None:
        self._sorted, self._number = np.zeros(0, int), np.zeros(0, int)

    def __len__(self) -> int:
        return len(self._sorted)

    def of(self, keys: Int[np.ndarray, " group"]) -> Int[np.ndarray, " group"]:
        """The number of each key; new ones are added.

        Args:
            keys: all distinct, ascending.
        """
        place = np.searchsorted(self._sorted, keys)
        there = place < len(self._sorted)
        there[there] = self._sorted[place[there]] == keys[there]
        new = ~there
        found = np.empty(len(keys), int)
        found[there] = self._number[place[there]]
        found[new] = np.arange(len(self), len(self) + np.count_nonzero(new))
        self._sorted = np.insert(self._sorted, place[new], keys[new])
        self._number = np.insert(self._number, place[new], found[new])
        return found

    def all(self) -> Int[np.ndarray, " group"]:
        """The keys by their numbers."""
        keys = np.empty(len(self), int)
        keys[self._number] = self._sorted
        return keys


def distinct_rows(
    columns: Sequence[Int[np.ndarray, " row"]],
) -> tuple[Int[np.ndarray, " group"], Int[np.ndarray, " row"]]:
    """Rows that are equal in all columns: the first row of each group, and each row's group.

    Args:
        columns: of integers from 0 on; the groups are in their order, the first column first.
    """
    key, size = np.zeros(len(columns[0]), int), 1
    for column in columns:
        width = int(column.max(initial=0)) + 1
        key, size = key * width + column, size * width
    if size > ROOM + ROOM_PER_ROW * len(key):
        _, first, group = np.unique(key, return_index=True, return_inverse=True)
        return first, group
    # Where all keys there can be have room, a table of them spares the sorting. Of a key's rows the first is set last.
    at = np.full(size, -1)
    at[key[::-1]] = np.arange(len(key))[::-1]
    there = np.flatnonzero(at >= 0)
    first = at[there]
    at[there] = np.arange(len(there))
    return first, at[key]


def distinct_prompts(
    group: Int[np.ndarray, " row"], prompt: Int[np.ndarray, " row"], n_groups: int
) -> Int[np.ndarray, " group"]:
    """Distinct prompts in each group.

    Args:
        group, prompt: of each row.
        n_groups: how many there are.
    """
    least = int(prompt.min()) if len(prompt) else 0
    width = int(prompt.max(initial=least)) - least + 1
    key = group * width + (prompt - least)
    # A table of flags takes an eighth of one of integers.
    if n_groups * width > 8 * (ROOM + ROOM_PER_ROW * len(key)):
        return np.bincount(np.unique(key) // width, minlength=n_groups)
    there = np.zeros((n_groups, width), bool)
    there.reshape(-1)[key] = True
    return np.count_nonzero(there, axis=1)


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
