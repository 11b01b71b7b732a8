"""What a method says of one prompt, held against what is true: precision, recall, and where it falls short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from svdtrace.truth.circuits import Wire

Firing = tuple[str, str, str]
"""A reader, and the roles of the tokens from which and to which it looks."""


class Edge(NamedTuple):
    """An edge by name: writer, reader, side, roles of the writer's token and of the reader's two."""

    writer: str
    reader: str
    side: str
    t: str
    i: str
    j: str

    @classmethod
    def of(cls, wire: Wire) -> Edge:
        """A planted edge."""
        return cls(wire.writer, wire.reader, wire.side, wire.t, wire.i, wire.j)

    @property
    def place(self) -> tuple[str, str, str, str]:
        """The signal that it feeds."""
        return self.reader, self.side, self.i, self.j

    @property
    def firing(self) -> Firing:
        """The firing that reads it."""
        return self.reader, self.i, self.j

    def __str__(self) -> str:
        return f"{self.writer}:{self.reader}@{self.i}:{self.j}/{self.side}"


@dataclass(frozen=True)
class Outcome:
    """What a method finds in one prompt: edges, and the firings that it reached."""

    edges: frozenset[Edge]
    firings: frozenset[Firing]


@dataclass(frozen=True)
class Score:
    """Edges over all prompts: true ones, those found, those that are both.

    `missed` says why true edges were not found: `unreached`, their reader was not reached; `nameless`, the method names
    heads alone and the writer is none; `cut`, the reader was reached and the writer not taken. `of_heads` counts the
    same three numbers where true heads write, among heads alone; `of_most` where an edge counts once, if it is found in
    at least half of the prompts. `found_in` says in how many prompts each edge was found, `reached` in what share of
    them there was a firing to begin with.
    """

    prompts: int
    reached: float
    true: int
    found: int
    both: int
    of_heads: tuple[int, int, int]
    of_most: tuple[int, int, int]
    missed: dict[str, int]
    found_in: Counter[Edge]

    def shares(self) -> dict[str, float | None]:
        """Precision, the share of the edges found that are true, and recall, the share of the true ones found.

        Of all edges, of those of heads, of those in most prompts; None where there is nothing to be a share of.
        """
        counts = {"": (self.true, self.found, self.both), "_heads": self.of_heads, "_most": self.of_most}
        shares: dict[str, float | None] = {}
        for name, (true, found, both) in counts.items():
            shares[f"precision{name}"] = both / found if found else None
            shares[f"recall{name}"] = both / true if true else None
        return shares


def is_head(writer: str) -> bool:
    """Whether a writer is a head: `4.11`, but not `mlp.3` or `embed`."""
    return writer.replace(".", "", 1).isdigit()


def score(outcomes: Sequence[Outcome], true: Collection[Edge], *, heads_alone: bool) -> Score:
    """Hold what was found in each prompt against the edges that are true in all of them."""
    truth = frozenset(true)
    of_heads = frozenset(edge for edge in truth if is_head(edge.writer))
    places = {edge.place for edge in of_heads}
    missed = Counter({"cut": 0, "unreached": 0, "nameless": 0})
    found_in: Counter[Edge] = Counter()
    both = heads_found = heads_both = 0
    for outcome in outcomes:
        found_in.update(outcome.edges)
        both += len(outcome.edges & truth)
        heads_found += sum(is_head(edge.writer) and edge.place in places for edge in outcome.edges)
        heads_both += len(outcome.edges & of_heads)
        missed.update(_why(edge, outcome, heads_alone) for edge in truth - outcome.edges)
    n = len(outcomes)
    most = {edge for edge, many in found_in.items() if 2 * many >= n}
    by_heads, by_most = (n * len(of_heads), heads_found, heads_both), (len(truth), len(most), len(most & truth))
    reached = sum(bool(outcome.firings) for outcome in outcomes) / n
    return Score(n, reached, n * len(truth), found_in.total(), both, by_heads, by_most, dict(missed), found_in)


def _why(edge: Edge, outcome: Outcome, heads_alone: bool) -> str:
    if edge.firing not in outcome.firings:
        return "unreached"
    return "nameless" if heads_alone and not is_head(edge.writer) else "cut"
