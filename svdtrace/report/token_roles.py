"""The role of every token, as numbers: what the circuit's columns are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from svdtrace.graph import OTHER, token_labels


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


def token_roles(prompts: pa.Table) -> TokenRoles:
    """The roles of a trace's prompts; of several roles at one position the last listed wins (METHOD.md, section 8).

    Args:
        prompts: `prompts.parquet`.
    """
    labels = dict(sorted(token_labels(prompts).items()))
    positions: dict[str, list[int]] = {}
    for by_position in labels.values():
        for position, role in by_position.items():
            positions.setdefault(role, []).append(position)
    # A role that a user calls `other` is the same label as none.
    positions.pop(OTHER, None)
    names = (OTHER, *sorted(positions, key=lambda role: float(np.mean(positions[role]))))
    number = {role: place for place, role in enumerate(names)}
    longest = max((len(tokens) for tokens in prompts["tokens"].to_pylist()), default=0)
    codes = np.zeros((len(labels), longest), int)
    for row, by_position in enumerate(labels.values()):
        for position, role in by_position.items():
            codes[row, position] = number[role]
    return TokenRoles(names, np.fromiter(labels, int, len(labels)), codes)
