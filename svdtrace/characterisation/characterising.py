"""A characterisation put together: the prompts and, beside them, a contrast; its tables, its folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpt2jax.params import Model
from svdtrace.characterisation import meaning_tables, tabulating
from svdtrace.characterisation.filtering import Key, filtering_of
from svdtrace.characterisation.schemas import SCHEMAS
from svdtrace.characterisation.signals import signals_between, strongest_kinds
from svdtrace.characterisation.task_tokens import name_tokens, token_norms
from svdtrace.characterisation.usage import MOST_PAIRS, HeadUsage, usage_of
from svdtrace.config import TraceConfig, check_linear, check_seed
from svdtrace.output.writing import replaced_folder, write_manifest
from svdtrace.prompts.hashing import prompts_hash
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import naming, progressing
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.devices import precision
from svdtrace.tracing.manifest import device_facts, model_facts
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.roots import parse_roots
from svdtrace.tracing.trace import check_prompts, prepare_cached

PROMPTS, CONTRAST = "prompts", "contrast"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Characterisation:
    """The tables of `svdtrace.characterisation.schemas` by name, and the manifest that says how they came about."""

    tables: dict[str, pa.Table]
    manifest: dict[str, Any] = field(repr=False)

    def save(self, folder: str | Path) -> None:
        """Write tables, pictures (SVG and PNG) and manifest into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.characterisation.pictures import draw_all

        with replaced_folder(folder) as staging:
            for name, table in self.tables.items():
                pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
            draw_all(self.tables, staging)
            write_manifest(staging, self.manifest)


def characterise(
    model: Model,
    prompts: Iterable[Prompt],
    contrast: Iterable[Prompt] | None = None,
    config: TraceConfig | None = None,
    *,
    firing: str | None = None,
    names: frozenset[int] | None = None,
    most_pairs: int = MOST_PAIRS,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> Characterisation:
    """Say what every head does on prompts, beside what it does on others.

    Args:
        model: raw or folded; a raw one is folded when the config says so.
        prompts: the task.
        contrast: ordinary text, to hold the task against.
        config: what decides firings and slices; `method` decides contributions.
        firing: the firing that is shown whole, `LAYER.HEAD@DEST:SRC`; by default one that stands for many.
        names: tokens told apart from all others; by default names (`task_tokens.name_tokens`).
        most_pairs: pairs that do not fire, over all heads, looked at in each data set; a seeded sample beyond that.
        seed: of every draw.
        progress: called with prompts done, prompts in all, and what is done with them. True shows a bar, in a terminal
            and in a notebook.

    Raises:
        SettingError, RootError, PromptError, ModelError: what was asked does not fit the model or the prompts.
    """
    config = config or TraceConfig()
    check_linear(config, "characterise")
    data_sets = {PROMPTS: prompts} | ({CONTRAST: contrast} if contrast is not None else {})
    data_sets = {name: check_prompts(model, each) for name, each in data_sets.items()}
    check_seed(seed)
    if firing is not None:
        parse_roots(firing, model.config, data_sets[PROMPTS])
    if names is None:
        names = name_tokens([prompt for each in data_sets.values() for prompt in each])
    clock = Clock()
    with precision(config), progressing(progress, "firings") as told:
        with clock("prepare"):
            prepared = prepare_cached(model, config)
        sets = {}
        for name, given in data_sets.items():
            with clock("firings"):
                its = naming(told, f"firings of {name}")
                sets[name] = usage_of(prepared, given, config, most_pairs=most_pairs, seed=seed, progress=its)
        example = meaning_tables.example_firing(sets[PROMPTS], firing)
        tables = _tables(prepared, config, sets, names, clock) | _meaning(prepared, config, sets, example, seed, clock)
    draws = {"seed": seed, "most_pairs": most_pairs}
    manifest = _manifest(prepared, config, data_sets, sets, tables, draws)
    return Characterisation(tables, manifest | {"seconds": clock.rounded()})


def _tables(
    prepared: Prepared, config: TraceConfig, sets: dict[str, HeadUsage], names: frozenset[int], clock: Clock
) -> dict[str, pa.Table]:
    used = {name: tabulating.used_vectors(usage) for name, usage in sets.items()}
    with clock("tokens"):
        chosen = np.stack([used[PROMPTS]] * 2)
        norms = {name: token_norms(prepared, usage.prompts, config, chosen) for name, usage in sets.items()}
        heads = [(int(layer), int(head)) for layer, head in np.argwhere(sets[PROMPTS].count > 0)]
        tokens, aucs = tabulating.tokens_table(norms, heads, names)
    with clock("tables"):
        return {
            "heads": tabulating.heads_table(sets, used, aucs),
            "sizes": tabulating.sizes_table(sets),
            "vectors": tabulating.vectors_table(sets, prepared.decomposition),
            "vectors_by_prompt": tabulating.vectors_by_prompt_table(sets),
            "tau": tabulating.tau_table(sets),
            "overlaps": tabulating.overlaps_table(sets, used, prepared.decomposition),
            "tokens": tokens,
        }


def _meaning(
    prepared: Prepared,
    config: TraceConfig,
    sets: dict[str, HeadUsage],
    example: Key | None,
    seed: int,
    clock: Clock,
) -> dict[str, pa.Table]:
    """What slices filter out, and what the signals that are left mean."""
    n_heads, main = prepared.model.config.n_heads, sets[PROMPTS]
    with clock("filtering"):
        filtered = {
            name: filtering_of(prepared, usage.prompts, config, example if name == PROMPTS else None)
            for name, usage in sets.items()
        }
    with clock("signals"):
        edges = filtered[PROMPTS].edges
        kinds = strongest_kinds(edges, main.prompts, n_heads)
        signals, pairs = (SCHEMAS[name].empty_table() for name in ("signals", "signal_pairs"))
        if kinds:
            found = signals_between(prepared, main, edges, config, kinds)
            signals, pairs = meaning_tables.signals_tables(prepared, found)
    return {
        "filtering": meaning_tables.filtering_table(filtered, seed),
        "firing_products": meaning_tables.products_table(main, example),
        "firing_contributions": meaning_tables.contributions_table(main, filtered[PROMPTS], example),
        "signals": signals,
        "signal_pairs": pairs,
    }


def _manifest(
    prepared: Prepared,
    config: TraceConfig,
    given: dict[str, list[Prompt]],
    sets: dict[str, HeadUsage],
    tables: dict[str, pa.Table],
    draws: dict[str, int],
) -> dict[str, Any]:
    hashes = {name: prompts_hash(prompts) for name, prompts in given.items()}
    return {
        **versions(),
        "command": "characterise",
        "config": config.to_dict(),
        **draws,
        "model": model_facts(prepared),
        "prompts": {"count": len(sets[PROMPTS].prompts), "sha256": hashes[PROMPTS], "rejected": 0},
        "not_finite": sets[PROMPTS].not_finite,
        "data_sets": {name: _facts(usage) | {"sha256": hashes[name]} for name, usage in sets.items()},
        "counts": {"firings": len(sets[PROMPTS].firings), **{name: table.num_rows for name, table in tables.items()}},
        "device": device_facts(config),
    }


def _facts(usage: HeadUsage) -> dict[str, Any]:
    """What the closing table says of a data set."""
    idle, size = usage.idle.sum(axis=(0, 1)), usage.firings.size
    return {
        "prompts": len(usage.prompts),
        "not_finite": usage.not_finite,
        "firings": len(size),
        "idle_pairs": int(idle.sum()),
        "sampled": usage.sampled,
        "mean_size": round(float(size.mean()), 4) if len(size) else None,
        "idle_mean_size": round(float(idle @ np.arange(len(idle)) / idle.sum()), 4) if idle.sum() else None,
    }
