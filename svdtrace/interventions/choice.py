"""Which edges of a trace to edit: its strongest ones, those into or out of a node, or all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from svdtrace.errors import EdgeError
from svdtrace.interventions.settings import SILENT
from svdtrace.results.circuit_graph import token_labels

_BREAKING = set(":@/,")


@dataclass(frozen=True)
class NamedEdges:
    """Distinct edges of a trace by name, strongest first by the total of their weights over prompts."""

    names: tuple[str, ...]
    writer: tuple[str, ...]
    reader: tuple[str, ...]
    token: tuple[str, ...]
    total: tuple[float, ...]

    def into(self, node: str) -> list[str]:
        """In-edges of a head (`9.9`), or of a head at a token's role (`9.9@end`).

        Raises:
            EdgeError: there are none.
        """
        head, _, token = node.partition("@")
        chosen = zip(self.names, self.reader, self.token, strict=True)
        return self._some([n for n, r, t in chosen if r == head and token in ("", t)], f"into {node}")

    def out_of(self, node: str) -> list[str]:
        """Out-edges of a writer (`8.6`, `mlp.3`), or of one at a token's role (`8.6@end`).

        Raises:
            EdgeError: there are none.
        """
        writer, _, token = node.partition("@")
        chosen = zip(self.names, self.writer, self.token, strict=True)
        return self._some([n for n, w, t in chosen if w == writer and token in ("", t)], f"out of {node}")

    def strongest(self, count: int) -> list[str]:
        """The strongest ones.

        Raises:
            EdgeError: there are none.
        """
        return self._some(list(self.names[:count]), "that can be edited")

    def _some(self, names: list[str], which: str) -> list[str]:
        if not names:
            way_out = "name another node, or trace with other roots" if self.names else "it has none at all; trace anew"
            raise EdgeError(f"the trace has no edge {which}; {way_out}")
        return names


def named_edges(prompts: pa.Table, edges: pa.Table) -> NamedEdges:
    """The edges of a trace as names: each end by its role where it has one (the last listed), else by its position.

    Attention biases and the constant are left out, since they are not edited.

    Args:
        prompts, edges: the tables of a trace.
    """
    labels = token_labels(prompts)
    columns = [edges[name].to_pylist() for name in ("prompt", "writer", "layer", "head", "dest", "src", "side")]
    total: dict[tuple[str, ...], float] = {}
    weights = edges["weight"].to_numpy().astype(np.float64)
    for (prompt, writer, layer, head, dest, src, side), weight in zip(zip(*columns, strict=True), weights, strict=True):
        if writer.startswith(SILENT):
            continue
        ends = tuple(_end(labels[prompt].get(token), token) for token in (dest, src))
        key = (writer, f"{layer}.{head}", *ends, side)
        total[key] = total.get(key, 0.0) + float(weight)
    order = sorted(total, key=lambda key: -total[key])
    return NamedEdges(
        names=tuple(f"{writer}:{reader}@{dest}:{src}/{side}" for writer, reader, dest, src, side in order),
        writer=tuple(key[0] for key in order),
        reader=tuple(key[1] for key in order),
        token=tuple(key[2] if key[4] == "dest" else key[3] for key in order),
        total=tuple(total[key] for key in order),
    )


def _end(role: str | None, token: int) -> str:
    """A role, if an edge's name can hold it and it would not be read as a position."""
    return role if role and not _BREAKING & set(role) and not role.isdecimal() else str(token)
