"""What a trace with bfloat16 weights says of them, as the page shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svdtrace.tracing.rounding import ROUNDING, compared_prompts


@dataclass(frozen=True)
class Row:
    """How much float32 weights give, and how much of it bfloat16 weights keep, lose and gain."""

    name: str
    whole: int
    kept: int
    lost: int
    gained: int


@dataclass(frozen=True)
class Rounded:
    """The section on rounded weights.

    Args:
        dtype: what they are rounded to.
        prompts: which were compared.
        rows: firings and edges.
        heads: whose firings change, those with most changes first.
    """

    dtype: str
    prompts: str
    rows: tuple[Row, ...]
    heads: tuple[Row, ...]


def rounded_words(manifest: Mapping[str, Any], prompts: int) -> Rounded | None:
    """What rounding changes; None for a trace with the weights as they are.

    Args:
        manifest: of a trace.
        prompts: of the trace.
    """
    rounding = manifest.get(ROUNDING)
    if not isinstance(rounding, Mapping):
        return None
    heads = [_row(name, counts) for name, counts in rounding["firings_per_head"].items()]
    return Rounded(
        dtype=rounding["dtype"],
        prompts=compared_prompts(rounding, prompts),
        rows=(_row("Firings", rounding["firings"]), _row("Edges", rounding["edges"])),
        heads=tuple(sorted(heads, key=lambda head: -(head.lost + head.gained))),
    )


def _row(name: str, counts: Mapping[str, int]) -> Row:
    kept, lost, gained = (int(counts[each]) for each in ("kept", "lost", "gained"))
    return Row(name, kept + lost, kept, lost, gained)
