"""`compare`: what methods' weights are worth, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gpt2jax.params import Model
from svdtrace.comparison.gathering import Measured, measured
from svdtrace.comparison.tables import agreement_table, effects_table, mean_removals, removals_table
from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.errors import SettingError
from svdtrace.prompts.hashing import prompts_hash
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.batching import Batch, plan_for, planned_batches
from svdtrace.tracing.devices import computing_device, precision
from svdtrace.tracing.finite import not_finite, refuse_nothing_finite
from svdtrace.tracing.manifest import device_facts, model_facts
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import WriterOrder
from svdtrace.tracing.trace import Clock, check_prompts, prepare_cached

Progress = Callable[[int, int], None]
DRAWS = 20


@dataclass(frozen=True)
class Comparison:
    """Methods' weights beside what taking the writers out does.

    `effects`, `removals`, `agreement`: the tables that docs/formats.md lists; `manifest`: how they came about, with
    the mean number of writers that must go, by side and order, under `removals`.
    """

    effects: pa.Table
    removals: pa.Table
    agreement: pa.Table
    manifest: dict[str, Any] = field(repr=False)

    def save(self, folder: str | Path) -> None:
        """Write tables, picture and manifest into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.comparison.folder import write

        write({name: getattr(self, name) for name in ("effects", "removals", "agreement")}, self.manifest, folder)


def compare(
    model: Model,
    prompts: Iterable[Prompt] | Prompt,
    config: TraceConfig | None = None,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Take every writer out of every firing, and hold what that does against what methods say of it.

    Args:
        model: raw or folded.
        prompts: any lengths.
        config: threshold, tau, skip_first, processing, batch_size and dtype count; by default `TraceConfig()`.
        draws: random orders of writers to take them out in; seed: of these.
        progress: called with prompts done and prompts in all. True shows a bar, in a terminal and in a notebook.

    Raises:
        SettingError, PromptError, ModelError: what was asked does not fit the model or the prompts, or the activations
            of no prompt are finite; no draws, or a negative seed.
    """
    if draws < 1 or seed < 0:
        raise SettingError(f"draws are {draws} and the seed is {seed}; give 1 draw or more, and a seed from 0 on")
    # Firings and slices by section 14; its pass would keep v, which nothing here asks for.
    config = replace(config or TraceConfig(), method=RELATIVE, select="cover", keys="summed", roots="all")
    watched = replace(config, method="exact", writers="all")
    clock, prompts = Clock(), check_prompts(model, prompts)
    with precision(config), progressing(progress, "taking writers out") as told:
        with clock("prepare"):
            prepared = prepare_cached(model, watched)
        shape = prepared.model.config
        lengths = [len(prompt.tokens) for prompt in prompts]
        kind = computing_device(config).platform
        plan = plan_for(lengths, config.batch_size, shape.n_heads, kind, prepared.devices)
        found, places, unusable = _taken_out(
            prepared, _told(planned_batches(prompts, plan), len(prompts), told), config, watched, clock, draws, seed
        )
    left_out = not_finite(prompts, unusable)
    refuse_nothing_finite(left_out, len(prompts))
    with clock("tables"):
        effects = effects_table(found, places, WriterOrder.of(shape.n_layers, shape.n_heads))
        removals, agreement = removals_table(found, places), agreement_table(effects)
    manifest = {
        **versions(),
        "command": "compare",
        "config": config.to_dict() | {"draws": draws, "seed": seed},
        "model": model_facts(prepared),
        "prompts": {"count": len(prompts) - left_out["prompts"], "sha256": prompts_hash(prompts), "rejected": 0},
        "not_finite": left_out,
        "counts": {"firings": removals.num_rows // 2, "effects": effects.num_rows},
        "removals": mean_removals(removals),
        "device": device_facts(config),
        "seconds": clock.rounded(),
    }
    return Comparison(effects, removals, agreement, manifest)


def _told(batches: Iterable[Batch], count: int, progress: Progress | None) -> Iterator[Batch]:
    """The batches one by one, and after each how many prompts are done."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.prompts)
        if progress is not None:
            progress(done, count)


def _taken_out(
    prepared: Prepared,
    batches: Iterable[Batch],
    config: TraceConfig,
    watched: TraceConfig,
    clock: Clock,
    draws: int,
    seed: int,
) -> tuple[list[Measured], list[np.ndarray], np.ndarray]:
    """What taking writers out does at every firing; its batch's places; places of prompts that are not finite."""
    found: list[Measured] = []
    places: list[np.ndarray] = []
    unusable: list[np.ndarray] = []
    rng = np.random.default_rng(seed)
    for batch in batches:
        with clock("taking out"):
            observed = watch(prepared, batch, watched)
            mine = list(measured(prepared, observed, config, draws, rng))
        found += mine
        places += [batch.place] * len(mine)
        unusable.append(batch.place[: len(batch.prompts)][~np.asarray(observed.finite)[: len(batch.prompts)]])
    return found, places, np.concatenate(unusable)
