"""What the page says of all prompts, firings and edges together, and what it must know of all prompts beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from svdtrace.pictures.token_roles import RoleOrder
from svdtrace.results.in_parts import Tables, columns


@dataclass(frozen=True)
class AllPrompts:
    """What is known of all prompts.

    Args:
        count: how many there are.
        roles: names of the roles, as `svdtrace.pictures.token_roles.role_names` orders them.
        texts: the text of every token id that occurs in them.
        differences, right: prompts with a logit difference, and those of them in which it is above 0.
        mean_difference: its mean, 0 where there is none.
    """

    count: int
    roles: tuple[str, ...]
    texts: dict[int, str]
    differences: int
    right: int
    mean_difference: float


def all_prompts(parts: Iterable[Tables]) -> AllPrompts:
    """Go through the prompts alone.

    Args:
        parts: of a trace.
    """
    order, texts = RoleOrder(), {}
    count = differences = right = 0
    total = 0.0
    for part in parts:
        # No name for the table: it would be held while the next part's is read.
        order.add(part.prompts)
        texts |= _token_texts(part.prompts)
        found = np.asarray(part.prompts["logit_difference"].drop_null().to_numpy(), float)
        count += part.prompts.num_rows
        differences += len(found)
        right += int(np.count_nonzero(found > 0))
        # One after another, whatever the parts.
        total = float(np.cumsum([total, *found])[-1])
    return AllPrompts(count, order.names(), texts, differences, right, total / max(differences, 1))


@dataclass(frozen=True)
class Totals:
    """Rows of the tables of firings and edges, how many of them are near a tie, and the sum of |S| over all firings."""

    firings: int = 0
    edges: int = 0
    firings_near_tie: int = 0
    edges_near_tie: int = 0
    size: int = 0

    def mean_size(self) -> str:
        """The mean |S|, for reading."""
        return f"{self.size / self.firings:.1f}"


class TotalCount:
    """Counts the totals, part by part."""

    def __init__(self) -> None:
        self.totals = Totals()

    def add(self, part: Tables, _names: Sequence[str]) -> None:
        """See `svdtrace.pictures.connections.Count`."""
        so_far = self.totals
        firings, edges = columns(part, "firings", ("near_tie", "size")), columns(part, "edges", ("near_tie",))
        ties = [int(np.count_nonzero(table["near_tie"].to_numpy())) for table in (firings, edges)]
        self.totals = Totals(
            firings=so_far.firings + firings.num_rows,
            edges=so_far.edges + edges.num_rows,
            firings_near_tie=so_far.firings_near_tie + ties[0],
            edges_near_tie=so_far.edges_near_tie + ties[1],
            size=so_far.size + int(firings["size"].to_numpy().sum(dtype=np.int64)),
        )


def _token_texts(prompts: pa.Table) -> dict[int, str]:
    ids, strings = (prompts[name].combine_chunks().flatten() for name in ("tokens", "strings"))
    distinct, first = np.unique(ids.to_numpy()[::-1], return_index=True)
    last = len(ids) - 1 - first
    return dict(zip(distinct.tolist(), strings.take(pa.array(last)).to_pylist(), strict=True))
