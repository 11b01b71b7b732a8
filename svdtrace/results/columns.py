"""Columns of tables: a name, a type, and what is in it, listed once and kept in the file beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

DESCRIPTION = b"description"


def column(name: str, kind: pa.DataType, description: str) -> pa.Field:
    """A column whose meaning and unit stand in its field's metadata, under `description`."""
    return pa.field(name, kind, metadata={DESCRIPTION: description.encode()})


def described(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    """A table's columns: name, type, meaning and unit."""
    return pa.schema([column(*each) for each in columns])


def roles_at(roles: Sequence[Mapping[str, int]], prompt: np.ndarray, token: np.ndarray) -> pa.Array:
    """The role of a token in every row, null where it has none; of several at one position the last listed wins.

    Args:
        roles: of each prompt, name → position.
        prompt: a place in `roles`, [row]; token: a position in that prompt, [row].
    """
    number: dict[str, int] = {}
    width = 1 + max((place for each in roles for place in each.values()), default=-1)
    codes = np.full((len(roles), width + 1), -1, np.int32)
    for row, each in zip(codes, roles, strict=True):
        for role, place in each.items():
            row[place] = number.setdefault(role, len(number))
    # Positions behind every role share the last column, which none has.
    found = codes[prompt, np.minimum(token, width)] if len(prompt) else np.zeros(0, np.int32)
    return pa.array(list(number), pa.string()).take(pa.array(found, mask=found < 0))
