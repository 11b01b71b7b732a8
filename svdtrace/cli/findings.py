"""What a trace says about how a name is carried to where it is needed; plain values for `svdtrace demo` to tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from svdtrace.errors import PromptError
from svdtrace.results.circuit_graph import OTHER, token_labels

if TYPE_CHECKING:
    import pyarrow as pa

    from svdtrace.prompts.prompt import Prompt
    from svdtrace.tracing.trace import Trace

DEST, SRC = "end", "IO"
ENOUGH = 0.25
"""Share of the prompts on which a head must fire from `end` to `IO` to be taken as a root."""
AT_MOST = 3
"""Roots taken where no head fires that often, and sources told of each head."""


@dataclass(frozen=True)
class Source:
    """Who wrote what a head reads: `writer` at the token with this role, read on this side.

    `share`: of all that earlier heads contribute to these firings on that side, summed over them.
    """

    writer: str
    token: str
    side: str
    prompts: int
    share: float


@dataclass(frozen=True)
class NameMover:
    """A head that fires from `end` to `IO`: on how many prompts, through how many dimensions, fed by whom."""

    head: str
    prompts: int
    mean_slice: float
    sources: tuple[Source, ...]


def check_roles(prompts: Sequence[Prompt]) -> None:
    """Hold the prompts to what the demo needs.

    Raises:
        PromptError: no prompt has both roles.
    """
    if not any({DEST, SRC} <= prompt.roles.keys() for prompt in prompts):
        raise PromptError(f"no prompt has both the roles {DEST} and {SRC}, which the demo looks between; give ioi:64")


def name_moving_heads(trace: Trace) -> list[tuple[str, int]]:
    """Heads that fire from `end` to `IO` with the number of prompts, most first: on a quarter of them, else the top."""
    firings = _from_end_to_io(trace, trace.firings)
    prompts_of: dict[str, set[int]] = defaultdict(set)
    for row in firings:
        prompts_of[f"{row['layer']}.{row['head']}"].add(row["prompt"])
    counts = sorted(((head, len(prompts)) for head, prompts in prompts_of.items()), key=lambda each: -each[1])
    often = [each for each in counts if each[1] >= ENOUGH * trace.prompts.num_rows]
    return often or counts[:AT_MOST]


def roots_of(heads: Sequence[tuple[str, int]]) -> str:
    """The heads as `--roots` takes them."""
    return ",".join(f"{head}@{DEST}:{SRC}" for head, _ in heads)


def name_movers(trace: Trace, heads: Sequence[tuple[str, int]]) -> list[NameMover]:
    """The heads with the slices of their firings from `end` to `IO` and with what these read."""
    firings, edges = _from_end_to_io(trace, trace.firings), _from_end_to_io(trace, trace.edges)
    labels = token_labels(trace.prompts)
    found = []
    for head, count in heads:
        sizes = [row["size"] for row in firings if f"{row['layer']}.{row['head']}" == head]
        groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in edges:
            if f"{row['layer']}.{row['head']}" == head:
                groups[row["writer"], labels[row["prompt"]].get(row["token"], OTHER), row["side"]].append(row)
        # By weight, not by share: where contributions cancel, a share of their small sum says little.
        best = sorted(groups.items(), key=lambda group: -sum(row["weight"] for row in group[1]))[:AT_MOST]
        found.append(NameMover(head, count, float(np.mean(sizes)), tuple(_source(*group) for group in best)))
    return found


def right_answers(trace: Trace) -> tuple[int, int]:
    """Prompts on which the answer's logit is above the distractor's, and prompts that have both."""
    difference = trace.prompts["logit_difference"].drop_null().to_numpy()
    return int(np.count_nonzero(difference > 0)), len(difference)


def _from_end_to_io(trace: Trace, table: pa.Table) -> list[dict[str, Any]]:
    """Rows of a table of firings or edges whose firing goes from `end` to `IO`."""
    pairs = {}
    for prompt, roles in zip(trace.prompts["prompt"].to_pylist(), trace.prompts["roles"].to_pylist(), strict=True):
        named = dict(roles)
        pairs[prompt] = (named.get(DEST), named.get(SRC))
    prompt, dest, src = (table[name].to_pylist() for name in ("prompt", "dest", "src"))
    rows = [row for row, each in enumerate(zip(prompt, dest, src, strict=True)) if pairs[each[0]] == each[1:]]
    return table.take(rows).to_pylist() if rows else []


def _source(key: tuple[str, str, str], rows: Sequence[dict[str, Any]]) -> Source:
    writer, token, side = key
    weight = sum(row["weight"] for row in rows)
    total = sum(row["weight"] / row["share"] for row in rows if row["share"])
    return Source(writer, token, side, len({row["prompt"] for row in rows}), weight / total if total else 0.0)
