"""What bfloat16 weights change in a trace: firings and edges that they lose and gain against the float32 weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from svdtrace.results.in_parts import Tables

ROUNDED, WHOLE = "bfloat16", "float32"
PROMPTS = 256
"""How many prompts, the first ones, are traced with the float32 weights too."""
ROUNDING = "rounding"
"""Where a manifest holds what `changes` finds."""
FIRING = ("prompt", "layer", "head", "dest", "src")
EDGE = (*FIRING, "writer", "side")


def changes(rounded: Tables, whole: Tables) -> dict[str, Any]:
    """Hold a trace with bfloat16 weights against one with the float32 weights, by which firings and edges are there.

    Args:
        rounded: with bfloat16 weights; its prompts are numbered from 0.
        whole: with the float32 weights and else the same settings, of the first of those prompts or of all.

    Returns:
        `dtype`; `prompts`, how many are compared; `firings` and `edges`, how many are `kept` (in both traces), `lost`
        (in `whole` alone) and `gained` (in `rounded` alone); `firings_per_head`, the same for each head, as `2.1`, that
        loses or gains any.
    """
    # Prompts without rows are numbered, too.
    many = 1 + max(whole.prompts["prompt"].to_pylist(), default=-1)
    firings, edges = (_first(table, many) for table in (rounded.firings, rounded.edges))
    lost, gained = _only(whole.firings, firings, FIRING), _only(firings, whole.firings, FIRING)
    per_head = {"lost": _per_head(lost), "gained": _per_head(gained)}
    of_rounded = _per_head(firings)
    return {
        "dtype": ROUNDED,
        "prompts": many,
        "firings": _counts(firings, lost, gained),
        "edges": _counts(edges, _only(whole.edges, edges, EDGE), _only(edges, whole.edges, EDGE)),
        "firings_per_head": {
            f"{layer}.{head}": {
                "kept": of_rounded.get((layer, head), 0) - per_head["gained"].get((layer, head), 0),
                **{name: counts.get((layer, head), 0) for name, counts in per_head.items()},
            }
            for layer, head in sorted(per_head["lost"].keys() | per_head["gained"].keys())
        },
    }


def sentence(rounding: Mapping[str, Any], prompts: int) -> str:
    """What `changes` found, in one sentence.

    Args:
        rounding: what it found.
        prompts: of the trace in all, whether compared or not.
    """
    firings, edges = (
        f"{each['lost']:,} of {each['kept'] + each['lost']:,} {name} lost, {each['gained']:,} gained"
        for name, each in (("firings", rounding["firings"]), ("edges", rounding["edges"]))
    )
    return f"{rounding['dtype']} weights: {firings}; {edges}, on {compared_prompts(rounding, prompts)}"


def compared_prompts(rounding: Mapping[str, Any], prompts: int) -> str:
    """Which prompts were compared: the first ones, or all there are.

    Args:
        rounding: what `changes` found.
        prompts: of the trace in all.
    """
    many = rounding["prompts"]
    return f"{'the first' if many < prompts else 'all'} {many:,} prompts" if many > 1 else "one prompt"


def _first(table: pa.Table, many: int) -> pa.Table:
    """The rows of the first prompts."""
    return table.filter(table["prompt"].to_numpy() < many)


def _only(one: pa.Table, other: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """The keys of one table that another lacks."""
    return one.select(key).join(other.select(key), list(key), join_type="left anti")


def _counts(rounded: pa.Table, lost: pa.Table, gained: pa.Table) -> dict[str, int]:
    return {"kept": rounded.num_rows - gained.num_rows, "lost": lost.num_rows, "gained": gained.num_rows}


def _per_head(firings: pa.Table) -> dict[tuple[int, int], int]:
    counted = firings.group_by(["layer", "head"]).aggregate([([], "count_all")])
    layers, heads, counts = (counted[name].to_pylist() for name in ("layer", "head", "count_all"))
    return dict(zip(zip(layers, heads, strict=True), counts, strict=True))
