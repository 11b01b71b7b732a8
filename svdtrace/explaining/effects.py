"""What taking an edge's signal away did, from the table of interventions that tried it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from svdtrace.errors import EdgeError
from svdtrace.explaining.card import Effect, Firing, Writer
from svdtrace.prompts.edge_names import EdgeName, named_edge, position

WHERE = ("local", "global")
CONTROLS = ("norm", "random")
"""The fairer one first."""
MEASURES = ("pattern", "logit_difference")
LEAST_EFFECT = 0.01
"""Of what a measure was before: a change below it does not matter, however sure it is."""


class Effects:
    """The ablations of single edges in one prompt.

    Args:
        table: `interventions.parquet`; prompt: which; roles: of that prompt, name → position.
    """

    def __init__(self, table: pa.Table, prompt: int, roles: Mapping[str, int]) -> None:
        mine = table.filter((pc.field("prompt") == prompt) & (pc.field("direction") == "ablate") & pc.field("edited"))
        self._rows: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        for row in mine.to_pylist():
            place = _place(row["edges"], roles)
            if place is not None:
                self._rows.setdefault(place, []).append(row)

    def of(self, firing: Firing, writer: Writer) -> tuple[Effect, ...]:
        """What was found of one edge, in its reader alone first; nothing where it was not tried."""
        key = (writer.name, firing.layer, firing.head, firing.dest, firing.src, writer.side)
        rows = self._rows.get(key, [])
        found = ((where, [row for row in rows if row["where"] == where]) for where in WHERE)
        return tuple(_effect(where, mine) for where, mine in found if any(row["control"] == "none" for row in mine))


def _place(name: str, roles: Mapping[str, int]) -> tuple[Any, ...] | None:
    """Which edge of the prompt a name means; none for sets of several and for ends that the prompt lacks."""
    try:
        edge: EdgeName = named_edge(name)
    except EdgeError:
        return None
    dest, src = position(edge.dest, roles), position(edge.src, roles)
    return None if dest is None or src is None else (edge.writer, edge.layer, edge.head, dest, src, edge.side)


def _effect(where: str, rows: Sequence[Mapping[str, Any]]) -> Effect:
    itself = next(row for row in rows if row["control"] == "none")
    control = next((each for each in CONTROLS if any(row["control"] == each for row in rows)), None)
    beside = [row for row in rows if row["control"] == control]

    def measured(name: str) -> tuple[float | None, float | None, float | None]:
        after = [row[f"{name}_after"] for row in beside if row[f"{name}_after"] is not None]
        return itself[f"{name}_before"], itself[f"{name}_after"], float(np.mean(after)) if after else None

    return Effect(where, measured("pattern"), measured("logit_difference"), control)
