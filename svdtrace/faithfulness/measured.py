"""Everything that is measured on edited runs: both curves, their ends, each edge patched alone, each head ablated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from svdtrace.config import check_seed
from svdtrace.errors import SettingError
from svdtrace.faithfulness import curves
from svdtrace.faithfulness.agreement import evenly
from svdtrace.faithfulness.given import Candidates
from svdtrace.faithfulness.measuring import Bench, measurements

NOTHING, CLEAN = "nothing", "clean"
MOST = 10_000
ENDS: tuple[str, ...] = (NOTHING, CLEAN, "all_candidates_kept", "all_candidates_removed")


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    `points` sizes on the curves, `seeds` random orders from `seed` on, `patched` edges at most that are patched one by
    one (evenly spaced in the order of their weight, where there are more).

    Raises:
        SettingError: a number out of its range.
    """

    points: int = 10
    seeds: int = 3
    seed: int = 0
    patched: int = 128

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("points", "seeds", "patched"):
            if not 1 <= getattr(self, name) <= MOST:
                raise SettingError(f"{name} is {getattr(self, name)}; give a number from 1 to {MOST}")
        check_seed(self.seed)


@dataclass(frozen=True)
class Measured:
    """What every prompt gives, by `svdtrace.faithfulness.editing.MEASURES`.

    `of_sets` [set measure prompt] under the sets of the curves; `patched` [edge measure prompt] with each of `edges`,
    candidates, removed alone; `ends` [measure prompt] by the names in `ENDS`.
    """

    orders: list[curves.Order]
    sets: curves.Sets
    of_sets: np.ndarray
    edges: np.ndarray
    patched: np.ndarray
    ends: dict[str, np.ndarray]

    def recovered(self, measure: int) -> np.ndarray:
        """`curves.recovered` of every set by one measure, [set prompt]."""
        return curves.recovered(self.of_sets[:, measure], self.ends[CLEAN][measure], self.ends[NOTHING][measure])

    def divisor(self, measure: int) -> curves.Divisor:
        """What the shares of one measure are divided by."""
        return curves.Divisor.of(self.ends[CLEAN][measure], self.ends[NOTHING][measure])

    def of_measure(self, measure: int) -> np.ndarray:
        """Which of the sets have an order that does not go by another measure, [set]."""
        return np.asarray([each.measure in (None, measure) for each in self.orders])[self.sets.order]


def measure(
    bench: Bench,
    listed: Candidates,
    attribution: np.ndarray,
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> Measured:
    """Measure all sets in one go.

    Args:
        attribution: attribution patching's scores, [measure candidate]; an order goes by each measure's.
        progress: called with sets done and sets in all.
    """
    orders = curves.orders(listed.total, listed.traced, attribution, settings.seeds, settings.seed)
    sets = curves.nested_sets(orders, curves.sizes(int(listed.traced.sum()), settings.points), len(listed))
    by_weight = orders[0].edges
    edges = by_weight[evenly(len(by_weight), settings.patched)]
    none, every = np.zeros((2, len(listed)), bool), np.ones((2, len(listed)), bool)
    alone = np.zeros((len(edges), len(listed)), bool)
    alone[np.arange(len(edges)), edges] = True
    kept = np.concatenate([[True, False, True, False], sets.kind == 0, np.zeros(len(edges), bool)])
    members = np.concatenate([none, every, sets.members, alone])
    found = measurements(bench, listed.places(), members, kept, progress)
    ends: dict[str, np.ndarray] = dict(zip(ENDS, found[: len(ENDS)], strict=True))
    rest = found[len(ENDS) :]
    return Measured(orders, sets, rest[: len(sets.size)], edges, rest[len(sets.size) :], ends)
