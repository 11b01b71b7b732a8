"""Columns of tables: a name, a type, and what is in it, listed once and kept in the file beside the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int

DESCRIPTION = b"description"


def column(name: str, kind: pa.DataType, description: str) -> pa.Field:
    """A column whose meaning and unit stand in its field's metadata, under `description`."""
    return pa.field(name, kind, metadata={DESCRIPTION: description.encode()})


def described(*columns: tuple[str, pa.DataType, str]) -> pa.Schema:
    """A table's columns: name, type, meaning and unit."""
    return pa.schema([column(*each) for each in columns])


def meaning(field: pa.Field) -> str:
    """What a column's file says of it; nothing where it says nothing."""
    return (field.metadata or {}).get(DESCRIPTION, b"").decode()


def roles_at(roles: Sequence[Mapping[str, int]], prompt: np.ndarray, token: np.ndarray) -> pa.Array:
    """The role of a token in every row, null where it has none; of several at one position the last listed wins.

    Args:
        roles: of each prompt, name → position.
        prompt: a place in `roles`, [row]; token: a position in that prompt, [row].
    """
    codes = RoleCodes.of(roles)
    found = codes.at(prompt, token)
    return pa.array(codes.names, pa.string()).take(pa.array(found, mask=found < 0))


@dataclass(frozen=True)
class RoleCodes:
    """The role of every token of some prompts as a number: its place in `names`, -1 where it has none.

    `codes`: [prompt tok], a last column beyond every role.
    """

    names: tuple[str, ...]
    codes: Int[np.ndarray, "prompt tok"]

    @classmethod
    def of(cls, roles: Sequence[Mapping[str, int]]) -> RoleCodes:
        """The roles of each prompt, name → position; of several at one position the last listed wins."""
        number: dict[str, int] = {}
        width = 1 + max((place for each in roles for place in each.values()), default=-1)
        codes = np.full((len(roles), width + 1), -1, np.int32)
        for row, each in zip(codes, roles, strict=True):
            for role, place in each.items():
                row[place] = number.setdefault(role, len(number))
        return cls(tuple(number), codes)

    def at(self, prompt: np.ndarray, token: np.ndarray) -> Int[np.ndarray, " row"]:
        """The roles of tokens, `prompt` being places among the prompts."""
        # Positions behind every role share the last column, which none has.
        width = self.codes.shape[1] - 1
        return self.codes[prompt, np.minimum(token, width)] if len(prompt) else np.zeros(0, np.int32)
