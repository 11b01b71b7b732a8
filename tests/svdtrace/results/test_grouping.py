"""Rows counted together: both ways of finding equal rows, and numbers that stay as more is met."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from svdtrace.results import grouping
from svdtrace.results.grouping import Groups, Keys, Names, distinct_prompts, distinct_rows


@pytest.mark.parametrize("room", [0, 2**22])
def test_equal_rows_are_found_with_and_without_room_for_a_table(monkeypatch: pytest.MonkeyPatch, room: int):
    """Catches the last row of a group given as its first, and groups out of the columns' order."""
    monkeypatch.setattr(grouping, "ROOM", room)
    monkeypatch.setattr(grouping, "ROOM_PER_ROW", 0)
    rng = np.random.default_rng(0)
    columns = [rng.integers(0, width, 500) for width in (7, 1, 4)]
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    first, group = distinct_rows(columns)
    distinct = sorted(set(rows))
    assert first.tolist() == [rows.index(each) for each in distinct]
    assert [distinct[each] for each in group] == rows
    counted = distinct_prompts(group, columns[0] + 100, len(distinct))
    assert counted.tolist() == [len({row[0] for row in rows if row == each}) for each in distinct]
    none = [np.zeros(0, int)] * 2
    assert [each.tolist() for each in distinct_rows(none)] == [[], []]
    assert distinct_prompts(*none, 3).tolist() == [0, 0, 0]


def test_numbers_stay_as_more_keys_are_met():
    """Catches keys that take another's number when new ones come between them."""
    keys, number = Keys(), {}
    rng = np.random.default_rng(1)
    for _ in range(20):
        met = np.unique(rng.integers(0, 300, 40))
        for key, found in zip(met.tolist(), keys.of(met).tolist(), strict=True):
            assert number.setdefault(key, found) == found
    assert sorted(number.values()) == list(range(len(keys)))
    assert keys.all().tolist() == sorted(number, key=number.__getitem__)


def test_groups_keep_their_numbers_from_table_to_table():
    groups = Groups()
    assert groups.of([np.asarray([5, 2, 5]), np.asarray([0, 1, 0])]).tolist() == [0, 1, 0]
    assert groups.of([np.asarray([2, 9]), np.asarray([1, 1])]).tolist() == [1, 2]
    assert [column.tolist() for column in groups.columns(2)] == [[5, 2, 9], [0, 1, 1]]


def test_names_are_the_same_encoded_and_plain():
    plain = pa.chunked_array([["b", "a"], ["c", "b"]])
    for column in (plain, plain.dictionary_encode()):
        names = Names()
        assert names.of(column).tolist() == [0, 1, 2, 0]
        assert names.all() == ["b", "a", "c"]
