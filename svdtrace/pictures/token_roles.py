"""The role of every token, as numbers: what the circuit's columns are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from svdtrace.results.circuit_graph import OTHER, token_labels
from svdtrace.results.grouping import Names, distinct_rows, grown
from svdtrace.results.in_parts import Tables


@dataclass(frozen=True)
class TokenRoles:
    """Roles by number: 0 is `other`, the rest follow in reading order.

    Args:
        names: the roles' names; a role's number is its place here.
        prompts: the prompts' numbers, ascending.
        codes: the role of every token; 0 beyond a prompt's end.
    """

    names: tuple[str, ...]
    prompts: Int[np.ndarray, " prompt"]
    codes: Int[np.ndarray, "prompt tok"]

    def row(self, prompt: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
        """Where a prompt stands in `prompts`."""
        return np.searchsorted(self.prompts, prompt)

    def of(self, prompt: Int[np.ndarray, " row"], token: Int[np.ndarray, " row"]) -> Int[np.ndarray, " row"]:
        """The roles of tokens, each in its prompt."""
        return self.codes[self.row(prompt), token] if len(prompt) else np.zeros(0, int)


def role_codes(column: pa.ChunkedArray, names: Sequence[str]) -> Int[np.ndarray, " row"]:
    """The numbers of a column of roles; 0, `other`, where a row has none.

    Args:
        column: `role`, `dest_role` or `src_role`, plain or encoded.
        names: of the roles, from `role_names`.
    """
    number = {role: place for place, role in enumerate(names)}
    encoded = column.combine_chunks().dictionary_encode()
    codes = np.asarray([*(number[role] for role in encoded.dictionary.to_pylist()), 0])
    return codes[np.asarray(encoded.indices.fill_null(len(codes) - 1).to_numpy(), int)]


def role_names(parts: Iterable[Tables]) -> tuple[str, ...]:
    """The names of the roles by number: `other`, then in reading order, by their mean position.

    Args:
        parts: of a trace.
    """
    order = RoleOrder()
    for part in parts:
        order.add(part.prompts)
    return order.names()


class RoleOrder:
    """Where in their prompts the tokens of each role stand, over tables of prompts one after another."""

    def __init__(self) -> None:
        self._names = Names()
        self._positions, self._counts = np.zeros(0, int), np.zeros(0, int)

    def add(self, prompts: pa.Table) -> None:
        """Look at some more prompts."""
        roles = prompts["roles"].combine_chunks()
        offset = np.asarray(roles.offsets)
        within = slice(int(offset[0]), int(offset[-1]))
        position, prompt = np.asarray(roles.items, int)[within], np.repeat(np.arange(len(roles)), np.diff(offset))
        name = self._names.of(pa.chunked_array([roles.keys[within]]))
        # Of several roles at one position the last listed is its label: the first one from behind.
        last, _ = distinct_rows([prompt[::-1], position[::-1]])
        name, position = name[::-1][last], position[::-1][last]
        many = len(self._names.all())
        self._counts = grown(self._counts, many) + np.bincount(name, minlength=many)
        self._positions = grown(self._positions, many)
        np.add.at(self._positions, name, position)

    def names(self) -> tuple[str, ...]:
        """See `role_names`."""
        means = {
            role: total / count
            for role, total, count in zip(
                self._names.all(), self._positions.tolist(), self._counts.tolist(), strict=True
            )
            # A role that a user calls `other` is the same label as none.
            if role != OTHER and count
        }
        return OTHER, *sorted(means, key=means.__getitem__)


def token_roles(prompts: pa.Table, names: Sequence[str] | None = None) -> TokenRoles:
    """The roles of a trace's prompts; of several roles at one position the last listed wins (METHOD.md, section 8).

    Args:
        prompts: `prompts.parquet`, or a part of it.
        names: of the roles of all parts, from `role_names`; by default those of these prompts.
    """
    if names is None:
        order = RoleOrder()
        order.add(prompts)
        names = order.names()
    labels = dict(sorted(token_labels(prompts).items()))
    number = {role: place for place, role in enumerate(names)}
    longest = max((len(tokens) for tokens in prompts["tokens"].to_pylist()), default=0)
    codes = np.zeros((len(labels), longest), int)
    for row, by_position in enumerate(labels.values()):
        for position, role in by_position.items():
            codes[row, position] = number[role]
    return TokenRoles(tuple(names), np.fromiter(labels, int, len(labels)), codes)
