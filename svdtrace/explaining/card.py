"""What is told of one firing: plain values, from which terminal, notebook and page make their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from svdtrace.prompts.edge_names import EdgeName


@dataclass(frozen=True)
class Vector:
    """A singular vector of the slice, and its product: its part of the firing's total."""

    number: int
    product: float


@dataclass(frozen=True)
class Key:
    """A token that the head could attend to.

    Args:
        pattern: attention probability; score: before the softmax, attn_scale applied.
        path: M, under `relative` alone.
    """

    token: int
    pattern: float
    score: float
    path: float | None


@dataclass(frozen=True)
class Attended:
    """A token that a writer attended to where it wrote, and how much of its attention that had; None if unknown."""

    token: int
    pattern: float | None


@dataclass(frozen=True)
class Effect:
    """What taking an edge's signal away did to its prompt, beside the same with what stands for chance.

    Args:
        where: `local`, in the reader alone, or `global`.
        pattern, logit_difference: before, after, and after with the controls (their mean; None without any).
        control: `random` or `norm`; None without controls.
    """

    where: str
    pattern: tuple[float | None, float | None, float | None]
    logit_difference: tuple[float | None, float | None, float | None]
    control: str | None


@dataclass(frozen=True)
class Writer:
    """An edge of the firing: who wrote what it reads.

    Args:
        name: `1.5`, `mlp.0`; side, token: where it wrote.
        share: of all that is written into that side; None where that sums to 0 or less.
        by_vector: its weight through each vector of the slice, in the slice's order; None beyond the prompts that are
            looked at closely.
        here, rivals: under `relative`, what it did at the source and at all other keys together; None where unknown.
        drop: under `until`, by how much the attention fell at its turn.
        attended: what the writer attended to there.
        evidence: stability and probabilities, by column, where they were asked for.
        effects: of taking it away, where that was tried.
    """

    name: str
    side: str
    token: int
    weight: float
    share: float | None
    by_vector: tuple[float, ...] | None = None
    here: float | None = None
    rivals: float | None = None
    drop: float | None = None
    attended: tuple[Attended, ...] = ()
    near_tie: bool = False
    unreached: bool = False
    evidence: Mapping[str, float | None] = field(default_factory=dict)
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class Asked:
    """What was asked of the trace's edges, so that a card can say what was not.

    Args:
        chance: nulls of each kind; 0 if none.
        stability: names of the reruns.
        interventions: whether a table of them was given.
    """

    chance: int = 0
    stability: tuple[str, ...] = ()
    interventions: bool = False


@dataclass(frozen=True)
class Firing:
    """A head at a token: where it attends to, and through what.

    Args:
        strings: of the prompt's tokens; roles: of its positions, the last listed of several.
        total: what the vectors' products sum to over every k; unit: of products and weights.
        of_vectors: how many singular vectors the head has.
        keys: every token up to the destination; None beyond the prompts that are looked at closely.
        between: what stands between tokens in running text.
    """

    prompt: int
    strings: tuple[str, ...]
    roles: Mapping[int, str]
    layer: int
    head: int
    dest: int
    src: int
    pattern: float
    score: float
    total: float
    near_tie: bool
    of_vectors: int
    method: str
    vectors: tuple[Vector, ...]
    keys: tuple[Key, ...] | None
    between: str = ""

    @property
    def name(self) -> str:
        """The head, `2.6`."""
        return f"{self.layer}.{self.head}"

    @property
    def relative(self) -> bool:
        """Whether weights are in attention probability, against the other keys."""
        return self.method == "relative"


@dataclass(frozen=True)
class Card:
    """Why a head attended there.

    Args:
        writers: the firing's edges, the query side's first, the largest first on each.
        picked: the edge asked about, if one was.
        folder: where the trace is, as commands shall name it.
        heads_alone: whether heads are the only writers, so that shares are of what they wrote.
    """

    firing: Firing
    writers: tuple[Writer, ...]
    asked: Asked
    picked: EdgeName | None = None
    folder: str = "trace"
    heads_alone: bool = False

    @property
    def chosen(self) -> Writer | None:
        """The writer of the edge asked about."""
        if self.picked is None:
            return None
        mine = (each for each in self.writers if (each.name, each.side) == (self.picked.writer, self.picked.side))
        return max(mine, key=lambda each: each.weight, default=None)

    def side(self, side: str) -> tuple[Writer, ...]:
        """The writers into one side."""
        return tuple(each for each in self.writers if each.side == side)
