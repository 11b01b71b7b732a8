"""How often chance would give an edge: p-values and false-discovery rates (METHOD.md, section 12).

found = svdtrace.chance(model, prompts)
found.annotate(svdtrace.trace(model, prompts, keep=found.survivors(0.05)))
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from gpt2jax.params import Model
from svdtrace.config import TraceConfig, check_linear, check_seed
from svdtrace.errors import SettingError
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.nulls.candidates import Candidates, draw, look, question
from svdtrace.nulls.summary import EVERY, nulls_for, summary_of
from svdtrace.nulls.surviving import places_of, survivors, with_columns
from svdtrace.prompts.prompt import Prompt
from svdtrace.statistics import benjamini_hochberg
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.devices import computing_device, precision
from svdtrace.tracing.finite import not_finite, refuse_nothing_finite
from svdtrace.tracing.pipeline import Keep
from svdtrace.tracing.sharding import device_mesh
from svdtrace.tracing.trace import Progress, Trace, check_prompts, prepare_cached

if TYPE_CHECKING:
    from svdtrace.pictures.inline import Picture

FEWEST = 99
PER_EDGE = 20


@dataclass(frozen=True, repr=False)
class Chance:
    """What chance would give of every candidate edge.

    A candidate is a writer, a reader that fires, a side, and a role that one of the reader's tokens has on that side
    (`other` where it has none). Its statistic is the mean over the reader's firings of `c_w / Σ_w |c_w|` where section
    6 chooses the writer with c_w > 0, and 0 where it does not, or where the firing's token has another role. How many
    firings there are is the same under every null, so no p depends on it.

    Args:
        candidates: those with a statistic above 0; all others have p- and q-values of 1.
        statistic: as observed, over all of the reader's firings [candidate].
        observed, null: by kind, as observed [candidate] and under each null [null candidate], over the same firings:
            all of the reader's, under `prompts` those whose prompt has a partner.
        p: by kind, `p_values(observed, null)`; NaN where a null says nothing of it.
        q_value: Benjamini–Hochberg, over all candidates, of the largest p: an edge must beat every null.
        size: firings by |S| in random bases [null layer head d_head+1].
        summary: what `manifest.json` says of it all.
    """

    candidates: Candidates
    statistic: np.ndarray
    observed: dict[str, np.ndarray]
    null: dict[str, np.ndarray]
    p: dict[str, np.ndarray]
    q_value: np.ndarray
    size: np.ndarray
    summary: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        its = self.summary
        return f"Chance({its['edges']:,} edges, {its['nulls']:,} nulls; {its['surviving']:,} survive {its['fdr']})"

    def survivors(self, fdr: float) -> Keep:
        """A choice of edges for `svdtrace.trace(keep=…)`: those with a q-value of at most `fdr`."""
        return survivors(self.candidates, self.q_value, fdr)

    def annotate(self, trace: Trace) -> Trace:
        """The trace with `p_slices`, `p_bases`, `p_prompts`, `q_value` beside its edges, and `chance` in its manifest.

        Args:
            trace: of the same model, prompts and settings, its roots aside.
        """
        edges = with_columns(trace.edges, self.candidates, self.p, self.q_value)
        return replace(trace, edges=edges, manifest={**trace.manifest, "chance": self.summary})

    def plot(self, trace: Trace | None = None, strongest: int = 12) -> Picture:
        """What was observed of edges beside the range of each null, the largest statistic first, for a notebook.

        Args:
            trace: of the same model, prompts and settings, its roots aside: its edges alone. By default all candidates.
            strongest: how many edges.
        """
        from svdtrace.nulls.ranges import ranges_figure
        from svdtrace.pictures.inline import drawn

        places = np.arange(len(self.candidates)) if trace is None else places_of(trace.edges, self.candidates)
        places = places[np.argsort(-self.statistic[places], kind="stable")][:strongest]
        return drawn(lambda: ranges_figure(self.candidates, self.observed, self.null, self.p, places))


def chance(
    model: Model,
    prompts: Iterable[Prompt],
    config: TraceConfig | None = None,
    *,
    nulls: int | None = None,
    fdr: float = 0.05,
    seed: int = 0,
    blocks: float | None = None,
    progress: Progress | bool | None = None,
) -> Chance:
    """Hold every candidate edge against random slices, random bases and shuffled prompts (METHOD.md, section 12).

    Roots play no part: a reader's firings are all its firings.

    Args:
        model, prompts, config: as in `svdtrace.trace`.
        nulls: how many of each kind; by default enough that an edge can reach a q-value of 0.05, and 99 at least.
        fdr: the false-discovery rate at which the summary counts edges.
        seed: of all draws.
        blocks: let singular vectors whose σ lie within this of a neighbour's, relatively (0.01: 1 %), come into a slice
            together or not at all, by the sum of their products: such vectors are as good as any others of their span.
            Random bases then have blocks of the same sizes. By default each vector stands alone, as in a trace.
        progress: called with prompts done and prompts in all, first for what is observed, then for the nulls. True
            shows a bar, in a terminal and in a notebook.

    Raises:
        SettingError, PromptError, ModelError: what was asked does not fit.
    """
    config = config or TraceConfig()
    check(nulls, fdr, seed, blocks)
    check_linear(config, "chance")
    prompts = check_prompts(model, prompts)
    device, clock = computing_device(config), Clock()
    with precision(config), clock("nulls"), progressing(progress, "nulls") as told:
        asked = question(prepare_cached(model, config, device_mesh([device])), prompts, config, seed, blocks)
        found = look(asked, prompts, device.platform, told)
        unusable = not_finite(prompts, found.not_finite)
        refuse_nothing_finite(unusable, len(prompts))
        count = found.count(config)
        many = enough(count, len(found)) if nulls is None else nulls
        sums, size = draw(asked, found, many, prompts, device.platform, told)
    observed, null = means(found, sums)
    p = tested_alone(found, observed, null)
    tested = {**p, EVERY: largest(p)}
    q = {kind: q_values(each, count) for kind, each in tested.items()}
    counted = summary_of(found, tested, q, size, fdr)
    summary = {
        "nulls": many,
        "seed": seed,
        "fdr": fdr,
        "blocks": blocks,
        "candidates": count,
        **counted,
        "smallest_q": smallest_q(many, count, len(found)),
        "not_finite": unusable,
        "needed": math.ceil(count / (1 + many) / fdr),
        "nulls_needed": nulls_for(count, counted["beat_all"], fdr),
        "seconds": clock.rounded()["total"],
    }
    return Chance(found, observed["bases"], observed, null, p, q[EVERY], size, summary)


def means(found: Candidates, sums: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The statistic by kind, as observed [candidate] and under each null [null candidate], over the same firings."""
    with_partner = {"prompts": found.partnered}
    divisor = {kind: np.maximum(1, found.of_reader(with_partner.get(kind, found.firings))) for kind in sums}
    observed = {kind: found.sums[kind] / divisor[kind] for kind in sums}
    return observed, {kind: sums[kind] / divisor[kind] for kind in sums}


def tested_alone(
    found: Candidates, observed: dict[str, np.ndarray], null: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """p-values [candidate] against each kind alone; NaN where shuffled prompts can say nothing of a writer."""
    p = {kind: p_values(observed[kind], null[kind]) for kind in null}
    return {**p, "prompts": np.where(found.shuffled, p["prompts"], np.nan)}


def p_values(
    observed: Float[np.ndarray, " candidate"], null: Float[np.ndarray, "null candidate"]
) -> Float[np.ndarray, " candidate"]:
    """`p = (1 + nulls ≥ observed) / (1 + nulls)` (Phipson & Smyth 2010).

    What float32 cannot tell apart is a tie, and ties count against the edge.
    """
    beaten = np.sum(null >= observed * (1 - ACTIVATION_ERROR), axis=0)
    return (1 + beaten) / (1 + len(null))


def q_values(p: Float[np.ndarray, " candidate"], count: int) -> Float[np.ndarray, " candidate"]:
    """Benjamini–Hochberg over `count` candidates, of which those that are not listed have p = 1."""
    return benjamini_hochberg(np.concatenate([p, np.ones(max(0, count - len(p)))]))[: len(p)]


def largest(p: dict[str, np.ndarray]) -> Float[np.ndarray, " candidate"]:
    """The largest of the p-values that there are."""
    return np.max([np.where(np.isnan(each), 0, each) for each in p.values()], axis=0)


def enough(candidates: int, observed: int) -> int:
    """Nulls enough that edges which beat them all can have a q-value of 0.05."""
    return max(FEWEST, math.ceil(PER_EDGE * candidates / max(1, observed)))


def smallest_q(nulls: int, candidates: int, observed: int) -> float:
    """The q-value if every candidate observed beat every null."""
    return min(1.0, candidates / max(1, observed) / (1 + nulls))


def check(nulls: int | None, fdr: float, seed: int, blocks: float | None = None) -> None:
    """Hold the options against their ranges.

    Raises:
        SettingError: one of them cannot be used.
    """
    if nulls is not None and nulls < 1:
        raise SettingError(f"nulls is {nulls}; give 1 or more")
    if not 0 < fdr <= 1:
        raise SettingError(f"fdr is {fdr}; it must be above 0 and at most 1")
    if blocks is not None and not 0 <= blocks < 1:
        raise SettingError(f"blocks is {blocks}; it must be from 0 to below 1")
    check_seed(seed)
