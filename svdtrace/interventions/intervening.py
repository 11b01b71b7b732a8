"""Interventions on named edges, from a model and prompts to their tables.

found = svdtrace.intervene(model, prompts, ["8.6:9.9@end:IO/dest"])
found.table, found.summary()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import pyarrow as pa

from gpt2jax import notebook
from gpt2jax.config import GPT2Config
from gpt2jax.fingerprint import fingerprint
from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.errors import EdgeError, SettingError
from svdtrace.interventions.clean import run_clean
from svdtrace.interventions.pairs import find_pairs
from svdtrace.interventions.planning import Planned, Run, Spec, Substitute, list_runs, plan
from svdtrace.interventions.replacement import substitutes
from svdtrace.interventions.scene import Scene
from svdtrace.interventions.schedule import Found, run_all, watched_firing
from svdtrace.interventions.settings import SILENT, InterventionConfig
from svdtrace.interventions.tables import VALUES, interventions_table, measures_table
from svdtrace.interventions.windows import logit_difference
from svdtrace.method.decomposition import Decomposition, gauged
from svdtrace.prompts.edge_names import EdgeName, parse_edge
from svdtrace.prompts.hashing import prompts_hash
from svdtrace.prompts.listed import several
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.values import whole_number
from svdtrace.results.decompositions import cached_decompose
from svdtrace.results.versions import versions
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.batching import Batch, batches, bucket_edges
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.devices import computing_device, precision
from svdtrace.tracing.finite import not_finite, refuse_nothing_finite
from svdtrace.tracing.manifest import origin_facts
from svdtrace.tracing.prepare import processed
from svdtrace.tracing.tables import at_places
from svdtrace.tracing.trace import check_prompts

if TYPE_CHECKING:
    from svdtrace.pictures.inline import Picture

Progress = Callable[[int, int], None]


SHOWN = 10
"""Edits that a notebook shows."""


@dataclass(frozen=True)
class Interventions:
    """What interventions did.

    `table`: the columns that docs/formats.md lists; `measures`: the same rows with further measures;
    `manifest`: how they came about.
    """

    table: pa.Table
    measures: pa.Table
    manifest: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"Interventions({self.table.num_rows:,} edits of prompts)"

    def _repr_html_(self) -> str:
        names = ("edges", "where", "direction", "control", "prompts", "logit_difference", "pattern", "exceeds")
        every = self.summary().select(names).to_pylist()
        rows = [tuple(row.values()) for row in sorted(every, key=lambda row: -abs(row["logit_difference"] or 0.0))]
        return notebook.table(names, rows[:SHOWN], "Mean changes, the largest first", more=len(rows) - SHOWN)

    def summary(self) -> pa.Table:
        """Mean effects with intervals, signals beside their controls; see `svdtrace.interventions.summary`."""
        from svdtrace.interventions.summary import summarise

        return summarise(self.table, self.measures)

    def plot(self) -> Picture:
        """Mean changes of the logit difference with their intervals, signals beside controls, for a notebook."""
        from svdtrace.interventions.figures import effects_figure
        from svdtrace.pictures.inline import drawn

        return drawn(lambda: effects_figure(self.summary()))

    def save(self, folder: str | Path) -> None:
        """Write tables, figures and manifest into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.interventions.folder import write

        tables = {"interventions": self.table, "measures": self.measures, "summary": self.summary()}
        write(tables, self.manifest, folder)


@dataclass(frozen=True)
class Ready:
    """A folded model in the singular gauge, made ready for interventions."""

    model: Model
    decomposition: Decomposition
    config: TraceConfig
    fingerprint: str


def intervene(
    model: Model,
    prompts: Iterable[Prompt],
    edges: Iterable[str | Sequence[str]] | str,
    config: InterventionConfig | None = None,
    *,
    tracing: TraceConfig | None = None,
    progress: Progress | bool | None = None,
) -> Interventions:
    """Take signals between heads away, or add them once more, and see what becomes of the output (section 10).

    Args:
        model: raw or folded; a raw one is folded.
        prompts: any lengths.
        edges: interventions; each the name of an edge (`8.6:9.9@end:IO/dest`), or of several that are edited together,
            joined by commas or as a sequence. A single string is one of them.
        config: what is done to them, by default `InterventionConfig()`: global and local, ablate and boost, in the
            paper's way, without controls.
        tracing: threshold, tau, score_min and skip_first that say what a firing and its slice are; also dtype and
            batch_size. By default `TraceConfig()`.
        progress: called with interventions done and in all, after every batch. True shows a bar, in a terminal and
            in a notebook.

    Returns:
        A row for every prompt and intervention; `edited` is false where no edge of it is there. Prompts whose
        activations are not finite have none; the manifest counts and names them.

    Raises:
        EdgeError: an edge's name that cannot be understood, or a writer that cannot be edited.
        SettingError, PromptError, ModelError: what was asked does not fit the model or the prompts, or the activations
            of no prompt are finite.
    """
    config, tracing = config or InterventionConfig(), tracing or TraceConfig()
    clock = Clock()
    prompts = check_prompts(model, prompts)
    specs = parse_specs(several(edges, "edges", EdgeError), model.config, prompts)
    with precision(tracing), progressing(progress, "interventions") as told:
        with clock("prepare"):
            ready = make_ready(model, tracing)
            places = _finite_places(ready, prompts)
        unusable = not_finite(prompts, set(range(len(prompts))) - set(places))
        refuse_nothing_finite(unusable, len(prompts))
        kept = [prompts[place] for place in places]
        found = intervene_ready(ready, kept, specs, config, clock=clock, progress=told)
    said = {"prompts": found.manifest["prompts"] | {"sha256": prompts_hash(prompts)}, "not_finite": unusable}
    table, measures = (at_places(each, places) for each in (found.table, found.measures))
    return Interventions(table, measures, {**found.manifest, **said})


def _finite_places(ready: Ready, prompts: Sequence[Prompt]) -> list[int]:
    """The places of the prompts whose activations are finite."""
    finite = np.zeros(len(prompts), bool)
    for batch in _batches(ready, prompts):
        clean, _ = run_clean(ready.model.config, ready.model.params, batch.tokens, batch.length, batch.last)
        finite[batch.place[: len(batch.prompts)]] = np.asarray(clean.finite)[: len(batch.prompts)]
    return np.flatnonzero(finite).tolist()


def parse_specs(edges: Sequence[str | Sequence[str]], model: GPT2Config, prompts: Sequence[Prompt]) -> tuple[Spec, ...]:
    """Read sets of edges.

    Raises:
        EdgeError: see `svdtrace.prompts.edge_names.parse_edge`; a writer that is no part of what layers write, an end
            that no prompt has, or no edge at all.
    """
    roles = {role for prompt in prompts for role in prompt.roles}
    longest = max(len(prompt.tokens) for prompt in prompts)
    specs = []
    for each in edges:
        listed = each.split(",") if isinstance(each, str) else several(each, "the edges of one intervention", EdgeError)
        names = [str(name).strip() for name in listed]
        parsed = tuple(parse_edge(name, model) for name in names)
        for name, edge in zip(names, parsed, strict=True):
            _check(name, edge, roles, longest)
        # One order for all ways to name a set, so that sums are rounded alike.
        specs.append(Spec(",".join(names), tuple(sorted(parsed, key=str))))
    if not specs or not all(spec.edges for spec in specs):
        raise EdgeError("there are no edges; name at least one, such as 8.6:9.9@end:IO/dest")
    return tuple(specs)


def _check(name: str, edge: EdgeName, roles: set[str], longest: int) -> None:
    if edge.writer.startswith(SILENT):
        raise EdgeError(
            f'edge "{name}": {edge.writer} is the same everywhere and is not edited; name a head, mlp.L, embed or pos'
        )
    for end in (edge.dest, edge.src):
        if end in roles or ((place := whole_number(end)) is not None and place < longest):
            continue
        known = f"they have {', '.join(sorted(roles))}" if roles else "they have no roles; name positions"
        raise EdgeError(f'edge "{name}": no prompt has a role or position "{end}"; {known}')


def make_ready(model: Model, tracing: TraceConfig) -> Ready:
    """Fold a model and put it into the singular gauge, its decomposition from the user's cache if it is there.

    Raises:
        SettingError: raw weights are asked for.
        ModelError: the model cannot run a forward pass.
    """
    if tracing.processing == "raw":
        raise SettingError(
            'processing is "raw", but interventions are defined on folded weights; set processing to folded'
        )
    name = fingerprint(model)
    folded = processed(model, tracing)
    decomposition = cached_decompose(folded, key=f"{name}-{tracing.processing}-{tracing.dtype}")
    return Ready(gauged(folded, decomposition), decomposition, tracing, name)


def intervene_ready(
    ready: Ready,
    prompts: Sequence[Prompt],
    specs: Sequence[Spec],
    config: InterventionConfig,
    *,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Interventions:
    """The same as `intervene`, for a model that is ready and prompts and edges that are checked."""
    clock = clock or Clock()
    runs = list_runs(specs, config)
    parts = list(_batches(ready, prompts))
    values = _unedited(len(runs), len(prompts), ready.decomposition.S.dtype)
    substitute: Substitute | None = None
    if config.replacement != "zero":
        with clock("replacement"):
            substitute = substitutes((_scene(ready, batch, specs) for batch in parts), specs, config, len(prompts))
    done = 0
    for batch in parts:
        with clock("clean"):
            scene = _scene(ready, batch, specs)
            _fill(values, runs, scene)
        with clock("interventions"):
            planned = plan(scene, ready.decomposition, runs, config, substitute)
            run_all(scene, planned, computing_device(ready.config).platform, partial(_put, values, scene))
        done += len(batch.prompts)
        if progress is not None:
            progress(done * len(runs), len(prompts) * len(runs))
    with clock("tables"):
        table, measures = interventions_table(runs, values), measures_table(runs, values)
    manifest = _manifest(ready, prompts, specs, config, values)
    manifest["seconds"] = clock.rounded()
    return Interventions(table, measures, manifest)


def _batches(ready: Ready, prompts: Sequence[Prompt]) -> Any:
    edges = bucket_edges([len(prompt.tokens) for prompt in prompts])
    kind = computing_device(ready.config).platform
    return batches(prompts, edges, ready.config.batch_size, ready.model.config.n_heads, kind)


def _scene(ready: Ready, batch: Batch, specs: Sequence[Spec]) -> Scene:
    """The clean run of a batch, and where the edges stand in it."""
    model = ready.model
    clean, aligned = run_clean(model.config, model.params, batch.tokens, batch.length, batch.last)
    edges = [edge for spec in specs for edge in spec.edges]
    pairs = find_pairs(edges, batch, clean, np.asarray(ready.decomposition.within_rank()), model.config, ready.config)
    return Scene(model, batch, clean, aligned, pairs)


def _unedited(n_runs: int, n_prompts: int, dtype: Any) -> dict[str, np.ndarray]:
    """What the tables say where nothing is edited, [run prompt] each."""
    shape = (n_runs, n_prompts)
    values = {name: np.full(shape, np.nan, dtype) for name in VALUES}
    values |= {"norm_ratio": np.ones(shape, dtype), "cosine": np.ones(shape, dtype), "kl": np.zeros(shape, dtype)}
    return values | {"edited": np.zeros(shape, bool), "short_control": np.zeros(shape, bool)}


def _fill(values: dict[str, np.ndarray], runs: Sequence[Run], scene: Scene) -> None:
    """Before and, to begin with, after: the clean run's."""
    batch = scene.batch
    place = batch.place[: len(batch.prompts)]
    clean = batch.asked(np.asarray(_difference(scene.clean.logits, batch.answer, batch.distractor)))[: len(place)]
    watched = [watched_firing(run.spec) for run in runs]
    rows = np.asarray([0 if firing is None else scene.firing[firing] for firing in watched])
    seen = np.asarray([[firing is not None] for firing in watched])
    for when in ("before", "after"):
        values[f"logit_difference_{when}"][:, place] = clean
        for name in ("score", "pattern"):
            found = getattr(scene.pairs, name)[rows][:, : len(place)]
            values[f"{name}_{when}"][:, place] = np.where(seen, found, np.nan)


_difference = jax.jit(logit_difference)


def _put(values: dict[str, np.ndarray], scene: Scene, planned: Planned, found: Found) -> None:
    """Take over what an edit did, where it edited anything."""
    count = len(scene.batch.prompts)
    edited = np.any(planned.edit.edited[:, :count], axis=0)
    row, place = planned.run.row, scene.batch.place[:count][edited]
    values["edited"][row, place] = True
    values["short_control"][row, place] = planned.short[:count][edited]
    after = {f"{name}_after": getattr(found, name) for name in ("logit_difference", "score", "pattern")}
    if watched_firing(planned.run.spec) is None:
        after = {"logit_difference_after": found.logit_difference}
    for name, each in (after | {name: getattr(found, name) for name in ("kl", "norm_ratio", "cosine")}).items():
        values[name][row, place] = each[:count][edited]


def _manifest(
    ready: Ready,
    prompts: Sequence[Prompt],
    specs: Sequence[Spec],
    config: InterventionConfig,
    values: dict[str, np.ndarray],
) -> dict[str, Any]:
    shape, device = ready.model.config, computing_device(ready.config)
    sizes = {name: getattr(shape, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")}
    # Whatever chose the edges: these say what a firing and its slice are.
    defining = ("threshold", "tau", "score_min", "skip_first", "method", "processing", "dtype", "batch_size")
    return {
        **versions(),
        "command": "intervene",
        "config": config.to_dict() | {"tracing": {name: getattr(ready.config, name) for name in defining}},
        "model": {
            "fingerprint": ready.fingerprint,
            **origin_facts(ready.model),
            "processing": ready.model.processing,
            "shape": sizes,
            **sizes,
        },
        "prompts": {"count": len(prompts), "sha256": prompts_hash(prompts), "rejected": 0},
        "counts": {
            "sets": len(specs),
            "interventions": len(values["edited"]),
            "rows": int(values["edited"].size),
            "edited": int(values["edited"].sum()),
            "short_controls": int(values["short_control"].sum()),
        },
        "edges": [spec.name for spec in specs],
        "device": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
    }
