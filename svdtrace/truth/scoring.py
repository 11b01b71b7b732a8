"""How much of a planted circuit each method finds, and how that falls with the background and with the coverage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from gpt2jax.fingerprint import fingerprint
from gpt2jax.params import Model
from svdtrace.config import Method, TraceConfig
from svdtrace.errors import SettingError, TruthError
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.devices import precision
from svdtrace.tracing.manifest import device_facts, model_facts
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.trace import check_prompts, prepare_cached, trace_prepared
from svdtrace.truth.families import FAMILIES
from svdtrace.truth.outcomes import Edge, score
from svdtrace.truth.planting import Truth, plant
from svdtrace.truth.power import power
from svdtrace.truth.rivals import COMPOSITION, rivals
from svdtrace.truth.tables import POWER, Run, edges_table, scores_table
from svdtrace.truth.traced import angles, outcomes

METHODS: tuple[str, ...] = get_args(Method)
HEADS_ALONE = ("paper", "all", COMPOSITION)
"""What names no other writers, whatever `writers` says."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """What is tried.

    Raises:
        SettingError: an unknown method, or a coverage or strength outside its range.
    """

    methods: tuple[str, ...] = METHODS
    coverages: tuple[float, ...] = (0.5, 0.7, 0.9, 0.97, 0.999)
    strengths: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5)
    rivals: bool = True
    nulls: int | None = None
    """Draws of each of section 12's nulls with which their power is measured; None measures none."""

    def __post_init__(self) -> None:
        """Check every field."""
        for method in self.methods:
            for coverage in self.coverages:
                TraceConfig.from_dict({"method": method, "coverage": coverage})
        if not self.methods or not self.coverages:
            raise SettingError("there is no method or no coverage to try; name at least one of each")
        if any(not 0 <= each < float("inf") for each in self.strengths):
            raise SettingError(f"strengths are {', '.join(map(str, self.strengths))}; give numbers from 0 on")
        if self.nulls is not None and self.nulls < 1:
            raise SettingError(f"nulls is {self.nulls}; give 1 or more")


@dataclass(frozen=True)
class Scored:
    """`scores`, `edges` and, where it was asked for, `power` as `svdtrace.truth.tables` lists them; `manifest` says how
    they came about.
    """

    scores: pa.Table
    edges: pa.Table
    manifest: dict[str, Any] = field(repr=False)
    power: pa.Table | None = None

    def save(self, folder: str | Path) -> None:
        """Write tables, picture and manifest into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.truth.scored_folder import write

        tables = {"scores": self.scores, "edges": self.edges, "power": self.power}
        write({name: table for name, table in tables.items() if table is not None}, self.manifest, folder)


def score_truth(
    model: Model,
    prompts: Sequence[Prompt],
    truth: Truth,
    settings: Settings | None = None,
    progress: Progress | bool | None = None,
) -> Scored:
    """Hold what every method finds in a planted model against what is true of it.

    Where `truth` says what the model was made of, the same circuit is planted among weaker and stronger backgrounds.

    Args:
        model: raw, with the circuit in it.
        prompts: with all roles that the true edges name.
        truth: what is true of it.
        settings: methods, coverages, strengths.
        progress: called with models done and models in all. True shows a bar, in a terminal and in a notebook.

    Raises:
        SettingError, RootError, PromptError, ModelError: see `svdtrace.trace`.
        TruthError: an edge names a role that a prompt lacks, or a signal has another size than the model.
    """
    settings, clock = settings or Settings(), Clock()
    prompts = check_prompts(model, prompts)
    _check(truth, prompts, model)
    with precision(TraceConfig()), progressing(progress, "scoring models") as told:
        with clock("prepare"):
            own = prepare_cached(model, TraceConfig())
        models = dict(_models(own, truth, settings))
        runs: list[Run] = []
        powers: list[dict[str, Any]] = []
        for done, (strength, each) in enumerate(models.items()):
            prepared = each if isinstance(each, Prepared) else each()
            runs += _runs(prepared, strength, (prompts, truth, settings), clock)
            if settings.nulls is not None:
                with clock("nulls"):
                    powers += power(prepared, prompts, truth, strength, settings.nulls)
            if told is not None:
                told(done + 1, len(models))
    manifest = {
        **versions(),
        "command": "score-truth",
        "config": asdict(settings),
        "truth": {name: getattr(truth, name) for name in ("family", "strength", "seed", "roots")},
        "model": model_facts(own),
        "prompts": {"count": len(prompts)},
        "counts": {"edges": len(truth.edges), "models": len(models)},
        "device": device_facts(TraceConfig()),
        "seconds": clock.rounded(),
    }
    measured = None if settings.nulls is None else pa.Table.from_pylist(powers, schema=POWER)
    return Scored(scores_table(runs), edges_table(runs, truth.edges), manifest, measured)


def _models(own: Prepared, truth: Truth, settings: Settings) -> Iterator[tuple[float | None, Any]]:
    """The model itself, then those of other strengths, each made when it is called."""
    yield truth.strength, own
    family, strength, seed = truth.family, truth.strength, truth.seed
    if family not in FAMILIES or strength is None or seed is None:
        return
    # A model that was changed since, or planted by another version, has no others like it.
    if fingerprint(plant(family, strength, seed).model) != own.fingerprint:
        return
    for other in sorted({*settings.strengths} - {strength}):
        yield other, lambda other=other: prepare_cached(plant(family, other, seed).model, TraceConfig())


def _runs(
    prepared: Prepared, strength: float | None, given: tuple[Sequence[Prompt], Truth, Settings], clock: Clock
) -> list[Run]:
    """Every method and coverage on one model."""
    prompts, truth, settings = given
    true, found = [Edge.of(wire) for wire in truth.edges], []
    for method in settings.methods:
        for coverage in settings.coverages:
            config = TraceConfig.from_dict(
                {"method": method, "coverage": coverage, "roots": truth.roots, "writers": "all"}
            )
            with clock(f"tracing, {method}"):
                trace = trace_prepared(prepared, prompts, config)
            with clock("scoring"):
                result = score(outcomes(trace, prompts), true, heads_alone=method in HEADS_ALONE)
                turned = angles(trace, prompts, prepared.decomposition, truth.signals)
            found.append(Run(method, strength, coverage, result, turned))
    if not settings.rivals:
        return found
    with clock("rivals"):
        others = rivals(prepared, prompts, truth.roots)
    for name in others.values:
        for coverage in settings.coverages:
            result = score([others.outcome(name, coverage)], true, heads_alone=name in HEADS_ALONE)
            found.append(Run(name, strength, coverage, result))
    return found


def _check(truth: Truth, prompts: Sequence[Prompt], model: Model) -> None:
    for wire, signal in truth.signals.items():
        if np.shape(signal)[0] != model.config.d_model:
            raise TruthError(
                f"the signal of {Edge.of(wire)} has {np.shape(signal)[0]} rows, but d_model is {model.config.d_model}; "
                "give truth and model that belong together"
            )
        for number, prompt in enumerate(prompts):
            missing = {wire.i, wire.j} - prompt.roles.keys()
            if missing:
                raise TruthError(
                    f'prompt {number} has no role "{min(missing)}", which the edge {Edge.of(wire)} names; '
                    "give prompts and truth that belong together"
                )
