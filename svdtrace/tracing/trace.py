"""A trace: every stage put together, its tables, its folder.

trace = svdtrace.trace(model, svdtrace.prompts.ioi(64, model.tokenizer), svdtrace.TraceConfig(method="exact"))
trace.firings, trace.edges, trace.graph()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import networkx as nx
import numpy as np
import pyarrow as pa
from jax.sharding import Mesh

from gpt2jax.fingerprint import fingerprint
from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.errors import PromptError
from svdtrace.method.ratios import Ratio
from svdtrace.prompts.listed import listed
from svdtrace.prompts.prompt import Prompt
from svdtrace.results import circuit_graph
from svdtrace.results.decompositions import cached_decompose
from svdtrace.results.in_parts import Tables
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.batching import Plan, plan_for, planned_batches
from svdtrace.tracing.clock import Clock
from svdtrace.tracing.close_up import CloseUps, Seen, close_ups, looked_at, seen
from svdtrace.tracing.close_up_tables import close_up_tables
from svdtrace.tracing.devices import computing_device, computing_devices, precision
from svdtrace.tracing.finite import prompt_name, refuse_nothing_finite
from svdtrace.tracing.laws import cheapest
from svdtrace.tracing.manifest import trace_manifest
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.output_roots import parse_targets
from svdtrace.tracing.pipeline import BatchTrace, Following, Keep, batch_tables, finish, follow, warm, watch
from svdtrace.tracing.prepare import Prepared, in_gauge, processed, spread
from svdtrace.tracing.roots import Root, parse_roots
from svdtrace.tracing.rounding import PROMPTS, ROUNDED, ROUNDING, WHOLE, changes
from svdtrace.tracing.rows import WriterOrder
from svdtrace.tracing.sharding import device_mesh
from svdtrace.tracing.showing import Showing

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settled:
    """What is settled before the first prompt is traced: the roots that are looked for, the shapes compiled, which
    edges stay (by default all), and how many of the first prompts are looked at closely.
    """

    roots: tuple[Root, ...]
    plan: Plan
    keep: Keep | None = None
    closely: int = 0


@dataclass(frozen=True, repr=False)
class Trace(Showing):
    """Firings and edges of a model on prompts.

    `prompts`, `firings`, `edges` are the tables that docs/formats.md lists; `manifest` says how they came
    about. `svdtrace.read` gives the same back from a folder that `save` wrote. `close_ups` and `likeliest` are of the
    first prompts alone: what is shown of one of them (`svdtrace.tracing.close_up`). `model` is the traced one, where
    the trace was not read from a folder. What it is looked at with is `svdtrace.tracing.showing`'s.
    """

    prompts: pa.Table
    firings: pa.Table
    edges: pa.Table
    manifest: dict[str, Any] = field(repr=False)
    close_ups: pa.Table | None = field(default=None, repr=False)
    likeliest: pa.Table | None = field(default=None, repr=False)
    model: Model | None = field(default=None, repr=False, compare=False)

    def graph(self) -> nx.MultiDiGraph:
        """The circuit, `4.11@IO` → `8.6@S2`, an edge for each side, which is its key: see `circuit_graph.ours`."""
        return circuit_graph.ours([self])

    def parts(self) -> Iterator[Tables]:
        """The trace itself, as the only part of its tables (see `svdtrace.results.in_parts`)."""
        yield self

    def save(self, folder: str | Path) -> None:
        """Write tables, manifest, graph and report into a new, empty or earlier result's folder.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
        """
        from svdtrace.folders.writing import write

        write(self, folder)


def trace(
    model: Model,
    prompts: Iterable[Prompt] | Prompt,
    config: TraceConfig | None = None,
    *,
    keep: Keep | None = None,
    progress: Progress | bool | None = None,
    mesh: Mesh | None = None,
) -> Trace:
    """Trace prompts through a model.

    Args:
        model: raw or folded; a raw one is folded when the config says so.
        prompts: any lengths; they are put into length buckets.
        config: what decides every number, by default `TraceConfig()`. With dtype bfloat16 the manifest's `rounding`
            says what that changes, see `rounding`.
        keep: which edges stay, by default all: see `Chance.survivors`.
        progress: called with prompts done and prompts in all, after every batch; those traced a second time for
            `rounding` count twice. True shows a bar, in a terminal and in a notebook.
        mesh: the devices to spread prompts and parameters over, from `svdtrace.tracing.sharding.device_mesh`; by
            default prompts over all devices of this process.

    Returns:
        The trace. No firings is no error: its tables are empty.

    Raises:
        SettingError, RootError, PromptError, ModelError: what was asked does not fit the model or the prompts, or the
            activations of no prompt are finite.
    """
    config = config or TraceConfig()
    clock = Clock()
    prompts = check_prompts(model, prompts)
    parse_roots(config.roots, model.config, prompts)
    parse_targets(config.targets, model.tokenizer, model.config)
    with precision(config), progressing(progress, "tracing prompts") as told:
        with clock("prepare"):
            prepared = prepare_cached(model, config, mesh)
        settled = replace(
            settle(prepared, prompts, config, keep), closely=looked_at([len(each.tokens) for each in prompts])
        )
        if config.dtype != ROUNDED:
            found = trace_settled(prepared, prompts, config, settled, clock=clock, progress=told)
            return replace(_checked(found, prompts), model=model)
        every = len(prompts) + min(len(prompts), PROMPTS)
        first, again = (_onwards(told, before, every) for before in (0, len(prompts)))
        found = _checked(trace_settled(prepared, prompts, config, settled, clock=clock, progress=first), prompts)
        with clock(ROUNDING):
            changed = rounding(found, prompts, model=model, config=config, settled=settled, mesh=mesh, progress=again)
        manifest = {**found.manifest, ROUNDING: changed, "seconds": clock.rounded()}
        return replace(found, manifest=manifest, model=model)


def rounding(
    found: Trace,
    prompts: Sequence[Prompt],
    *,
    model: Model,
    config: TraceConfig,
    settled: Settled,
    mesh: Mesh | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What bfloat16 weights change: the first prompts are traced once more, with the weights as float32.

    What is rounded are the weights as processed. Those of a bfloat16 checkpoint are float32 here without loss, so that
    for them the results of folding alone are rounded; under processing raw nothing is, and nothing changes. While it is
    compared, the float32 model is held beside the other.

    Args:
        found: the trace with bfloat16 weights.
        prompts, model, config, mesh: what it was made of, as `trace` takes them.
        settled: roots, shapes and choice of edges, the same for both.

    Returns:
        See `svdtrace.tracing.rounding.changes`.
    """
    config = replace(config, dtype=WHOLE)
    prepared = prepare_cached(model, config, mesh)
    settled = replace(settled, closely=0)
    return changes(found, trace_settled(prepared, prompts[:PROMPTS], config, settled, progress=progress))


def _onwards(progress: Progress | None, before: int, every: int) -> Progress | None:
    """Progress of a later stage, told as that of the whole."""
    return None if progress is None else lambda done, _total: progress(before + done, every)


def prepare_cached(model: Model, config: TraceConfig, mesh: Mesh | None = None) -> Prepared:
    """Make a model ready, its decomposition from the user's cache where it was made before.

    Args:
        mesh: the devices to spread prompts and parameters over, see `svdtrace.trace`.

    Raises:
        SettingError, ModelError: see `svdtrace.tracing.prepare.prepare`.
    """
    ready = processed(model, config)
    # Hashed while the device folds.
    name = fingerprint(model)
    prepared = in_gauge(ready, cached_decompose(ready, key=f"{name}-{config.processing}-{config.dtype}"))
    return replace(spread(prepared, mesh or device_mesh(computing_devices(config))), fingerprint=name)


def trace_prepared(
    prepared: Prepared,
    prompts: Sequence[Prompt],
    config: TraceConfig,
    *,
    keep: Keep | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Trace checked prompts through a model that is ready; the same as `trace`, for many traces of one model, except
    that bfloat16 is not held against float32.

    Raises:
        RootError: a root that names no head, role or position.
        ModelError: the activations of no prompt are finite.
    """
    settled = settle(prepared, prompts, config, keep)
    return _checked(trace_settled(prepared, prompts, config, settled, clock=clock, progress=progress), prompts)


def _checked(found: Trace, prompts: Sequence[Prompt]) -> Trace:
    """The trace, if there is anything in it to trust."""
    refuse_nothing_finite(found.manifest["not_finite"], len(prompts))
    return found


def settle(prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, keep: Keep | None = None) -> Settled:
    """What is settled once for prompts that are all at hand.

    Raises:
        RootError: a root that names no head, role or position.
    """
    shape = prepared.model.config
    lengths = [len(prompt.tokens) for prompt in prompts]
    return Settled(
        roots=parse_roots(config.roots, shape, prompts),
        plan=plan_for(lengths, config.batch_size, shape.n_heads, computing_device(config).platform, prepared.devices),
        keep=keep,
    )


def trace_settled(
    prepared: Prepared,
    prompts: Sequence[Prompt],
    config: TraceConfig,
    settled: Settled,
    *,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Trace checked prompts with what is settled once for all of a sweep; else the same as `trace_prepared`, except
    that the activations of none of them need be finite.
    """
    clock = clock or Clock()
    shape = prepared.model.config
    order = WriterOrder.of(shape.n_layers, shape.n_heads)
    parts, tables, closely = [], [], []
    laws: list[Ratio] = []
    for part, looked in _parts(prepared, prompts, config, settled, clock, progress, laws):
        with clock("tables"):
            tables.append(batch_tables(part, order, prepared.model.tokenizer))
            if looked is not None:
                closely.append(close_up_tables(*looked, part, order, prepared.model.tokenizer))
        parts.append(part.counts)
    with clock("tables"):
        prompt_table, firing_table, edge_table = _joined(tables)
        close_ups = _joined(closely) if closely else ()
    manifest = trace_manifest(prepared, prompts, config, parts, (firing_table, edge_table))
    manifest["laws"] = [each.to_dict() for each in laws]
    manifest["seconds"] = clock.rounded()
    return Trace(prompt_table, firing_table, edge_table, manifest, *close_ups)


def check_prompts(model: Model, given: Iterable[Prompt] | Prompt) -> list[Prompt]:
    """Hold prompts against the model that is to read them; all of them, as a list.

    Raises:
        PromptError: none, an empty or too long one, a token outside the vocabulary, a role outside the prompt, or
            something else than prompts.
    """
    prompts = listed(given)
    if not prompts:
        raise PromptError("there are no prompts; give at least one")
    config = model.config
    named = Counter(prompt.id for prompt in prompts if prompt.id is not None)
    for name, times in named.items():
        if times > 1:
            raise PromptError(f'{times} prompts have the id "{name}"; give each its own, or none')
    for place, prompt in enumerate(prompts):
        name = prompt_name(prompt, place)
        length = len(prompt.tokens)
        if not 0 < length <= config.n_ctx:
            raise PromptError(f"{name} has {length} tokens; the model reads 1 to {config.n_ctx}")
        extra = [each for each in (prompt.answer, prompt.distractor) if each is not None]
        for token in (*prompt.tokens, *extra):
            if not 0 <= token < config.d_vocab:
                raise PromptError(f"{name}: token id {token} is outside the vocabulary, 0 to {config.d_vocab - 1}")
        for role, position in prompt.roles.items():
            if not 0 <= position < length:
                raise PromptError(f'{name}: role "{role}" is position {position}, but the prompt has {length} tokens')
    return prompts


def _parts(
    prepared: Prepared,
    prompts: Sequence[Prompt],
    config: TraceConfig,
    settled: Settled,
    clock: Clock,
    progress: Progress | None,
    laws: list[Ratio],
) -> Iterator[tuple[BatchTrace, tuple[CloseUps, Seen] | None]]:
    """Batch by batch, with what is looked at closely. While the device computes, the host turns the batch before into
    rows, or compiles what follows.

    The stage `forward` is what the host waits for of the pass: not what goes by while it makes rows and tables. With
    the first batch the cheapest laws are tried, and their ratios added to `laws`.
    """
    done = 0
    shapes: set[tuple[int, ...]] = set()
    observed: Observed | None = None
    following: tuple[Following, Seen | None] | None = None

    def finished(following: Following, kept: Seen | None) -> tuple[BatchTrace, tuple[CloseUps, Seen] | None]:
        nonlocal done
        with clock("rows"):
            part = finish(prepared, following, config, settled.roots, settled.keep)
            looked = None if kept is None else (close_ups(prepared, kept, part, following.chunks, config), kept)
        done += len(part.batch.prompts)
        if progress is not None:
            progress(done, len(prompts))
        return part, looked

    for batch in planned_batches(prompts, settled.plan):
        if observed is not None and observed.scale.shape[1:] != batch.tokens.shape:
            # Let go before the next is made, since that cannot take its memory over.
            observed = None
        with clock("forward"):
            observed = watch(prepared, batch, config, observed)
        if batch.tokens.shape not in shapes:
            shapes.add(batch.tokens.shape)
            with clock("attribute"):
                warm(prepared, observed, config)
        if following is not None:
            yield finished(*following)
        with clock("forward"):
            jax.block_until_ready(observed)
        if not laws:
            with clock("laws"):
                laws += cheapest(prepared, batch, observed)
        with clock("attribute"):
            dispatched = follow(prepared, batch, observed, config, settled.roots)
            jax.block_until_ready([chunk.result for chunk in dispatched.chunks])
        following = dispatched, seen(observed, batch, settled.closely)
        if following[1] is not None:
            # What the host has looked into is not taken over.
            observed = None
    if following is not None:
        yield finished(*following)


def _joined(parts: Sequence[tuple[pa.Table, ...]]) -> tuple[pa.Table, ...]:
    """The batches' tables as one each, prompts in the order of the input."""
    joined = []
    for tables in zip(*parts, strict=True):
        table = pa.concat_tables(tables).combine_chunks()
        prompt = table["prompt"].to_numpy()
        # Within a batch rows are sorted already; buckets take prompts out of their order.
        if np.any(np.diff(prompt) < 0):
            table = table.take(pa.array(np.argsort(prompt, kind="stable")))
        joined.append(table)
    return tuple(joined)
