"""A sweep, from a stream of records to a folder of parts.

    svdtrace.sweep(model, "prompts.jsonl", "out", svdtrace.TraceConfig(tau=0.9))

Killed at any moment and started again in the same way, it goes on after the last whole part.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from gpt2jax.fingerprint import fingerprint
from gpt2jax.params import Model
from svdtrace.config import TraceConfig
from svdtrace.errors import OutputError, PromptError, SettingError, TraceFolderError
from svdtrace.method.decomposition import Decomposition, decompose
from svdtrace.output.writing import MANIFEST
from svdtrace.prompts.hashing import hash_prompts
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.records import Limits
from svdtrace.prompts.sources import Placed, record_of, records
from svdtrace.results import decompositions
from svdtrace.results.versions import versions
from svdtrace.sweeping import parts
from svdtrace.sweeping.folder import (
    COMMAND,
    DECOMPOSITION,
    begun,
    claimed,
    joined,
    refuse_another,
    write_manifest,
)
from svdtrace.sweeping.parts import Part, RejectedWriter, Tally
from svdtrace.sweeping.processes import Processes
from svdtrace.sweeping.windows import Window, windows
from svdtrace.tracing.batching import Plan, streaming_plan
from svdtrace.tracing.devices import computing_device, computing_devices, precision
from svdtrace.tracing.finite import refuse_nothing_finite
from svdtrace.tracing.manifest import device_facts, model_facts
from svdtrace.tracing.prepare import Prepared, prepare, spread
from svdtrace.tracing.roots import parse_roots
from svdtrace.tracing.rounding import ROUNDED, ROUNDING
from svdtrace.tracing.sharding import device_mesh
from svdtrace.tracing.trace import Settled, Trace, rounding, trace_settled

PART_SIZE = 2048


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: what is done in all, of it what earlier runs did, and the seconds of this run."""

    done: Tally
    earlier: Tally
    seconds: float


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]


def sweep(
    model: Model,
    prompts: str | Iterable[Prompt],
    folder: str | Path,
    config: TraceConfig | None = None,
    *,
    part_size: int = PART_SIZE,
    strict: bool = False,
    bos: bool = False,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    mesh: Mesh | None = None,
) -> Sweep:
    """Trace a stream of prompts into a folder, part by part.

    Args:
        model: raw or folded, see `svdtrace.trace`.
        prompts: a source as `svdtrace.prompts.read` takes it, or prompts one by one.
        folder: new, empty, or that of this same sweep, which then goes on.
        config: what decides every number, by default `TraceConfig()`. With dtype bfloat16 the first part says what that
            changes, and the manifest repeats it as `rounding`.
        part_size: prompts a part. Ids are checked to be unique within a part.
        strict: stop at the first prompt that cannot be used, instead of setting it aside in `rejected.parquet`.
        bos, seed: see `svdtrace.prompts.read`.
        progress: called after every part.
        mesh: see `svdtrace.trace`.

    Returns:
        The finished sweep.

    Raises:
        OutputError: the folder holds another sweep, or other files, or is in use, or cannot be written.
        PromptError: the source cannot be read, or (`strict`) holds a prompt that cannot be used.
        SettingError, RootError, ModelError: what is asked does not fit the model or the first part's prompts, or the
            activations of no prompt are finite.
    """
    if part_size < 1:
        raise SettingError(f"part_size is {part_size}; give 1 or more")
    config = config or TraceConfig()
    limits = Limits.of(model.tokenizer, model.config, bos)
    together = Processes.here()
    # Every process needs the first window to settle what all share; the one that leads counts all of them.
    wanted = partial(_wanted, together)
    stream = windows(_placed(prompts, model, seed, limits.longest), limits, part_size, strict=strict, wanted=wanted)
    with (claimed if together.leads else joined)(folder) as target, precision(config):
        if not together.leads:
            together.wait("begun")
        manifest = begun(target)
        mark = fingerprint(model)
        if manifest is not None:
            asked = {"config": config.to_dict(), "fingerprint": mark, "part_size": part_size}
            refuse_another(manifest, asked, folder)
        leading = _leading(stream)
        if not leading:
            raise PromptError(f"{prompts if isinstance(prompts, str) else 'prompts'}: holds no prompts; give some")
        prepared = prepare(model, config, partial(_decomposition, folder=target, mark=mark))
        prepared = replace(spread(prepared, mesh or device_mesh(computing_devices(config))), fingerprint=mark)
        settled = _settled(prepared, leading[-1], config, manifest)
        source = str(prompts) if isinstance(prompts, str) else None
        changed = partial(rounding, model=model, config=config, settled=settled, mesh=mesh)
        run = _Run(target, prepared, config, settled, part_size, source, together, changed)
        return (run.lead if together.leads else run.follow)(chain(leading, stream), progress or _silent)


def _leading(stream: Iterator[Window]) -> list[Window]:
    """The first window with prompts that can be used, and those before it: what is settled is settled by prompts."""
    found: list[Window] = []
    for window in stream:
        found.append(window)
        if window.prompts:
            break
    return found


def _wanted(together: Processes, number: int) -> bool:
    return together.leads or number == 0 or together.does(number)


def _silent(_progress: Progress) -> None:
    """Tell nothing."""


@dataclass(frozen=True)
class _Count:
    """What is done, and of it what earlier runs did."""

    done: Part = field(default_factory=lambda: parts.in_all([]))
    earlier: Tally = field(default_factory=Tally)

    def plus(self, part: Part, *, was_there: bool) -> _Count:
        earlier = self.earlier + part.tally if was_there else self.earlier
        return _Count(parts.in_all([self.done, part]), earlier)


@dataclass(frozen=True)
class _Run:
    """What stays the same from part to part; `changed` says what bfloat16 weights change in a trace of prompts."""

    folder: Path
    prepared: Prepared
    config: TraceConfig
    settled: Settled
    part_size: int
    source: str | None
    together: Processes
    changed: Callable[[Trace, Sequence[Prompt]], dict[str, Any]]

    def lead(self, stream: Iterator[Window], progress: Callable[[Progress], None]) -> Sweep:
        """All windows: this process's own are traced, every one is counted."""
        start, digest = time.perf_counter(), hashlib.sha256()
        there = parts.counted(self.folder)
        self.note(there, None, start)
        if not (self.folder / DECOMPOSITION).exists():
            held = self.prepared
            decompositions.write(self.folder / DECOMPOSITION, held.decomposition, held.fingerprint)
        self.together.wait("begun")
        known, digests = set(parts.numbers(self.folder)), []
        rejected, complete = RejectedWriter(self.folder), False
        try:
            count = _Count()
            for window in stream:
                digests.append(window.digest)
                rejected.add(window.rejected)
                hash_prompts(digest, window.prompts)
                if self.together.does(window.number):
                    count = self._counted(window, known, count)
                    # Others' parts are counted at the end, and what is there from before is counted already.
                    if self.together.count == 1 and window.number not in known:
                        self.note(count.done, None, start)
                    progress(Progress(count.done.tally, count.earlier, time.perf_counter() - start))
            self.together.wait("done")
            whole = self._all_parts(digests)
            refuse_nothing_finite(parts.not_finite(whole), whole.tally.prompts + whole.tally.not_finite)
            complete = True
        finally:
            rejected.close(complete=complete)
        return Sweep(self.folder, self.note(whole, digest.hexdigest(), start))

    def follow(self, stream: Iterator[Window], progress: Callable[[Progress], None]) -> Sweep:
        """This process's own windows, and wait for the others."""
        start, known = time.perf_counter(), set(parts.numbers(self.folder))
        count = _Count()
        for window in stream:
            if self.together.does(window.number):
                count = self._counted(window, known, count)
                progress(Progress(count.done.tally, count.earlier, time.perf_counter() - start))
        self.together.wait("done")
        manifest = begun(self.folder)
        return Sweep(self.folder, manifest or {})

    def _counted(self, window: Window, known: set[int], count: _Count) -> _Count:
        """Count a window's part, traced now if it is not there yet."""
        if window.number in known:
            return count.plus(self._known(window.number, window.digest), was_there=True)
        # Once for a sweep: the part remembers it, so that it is there exactly when the part is.
        lacking = self.config.dtype == ROUNDED and self.together.leads and count.done.rounding is None
        compared = lacking and parts.counted(self.folder).rounding is None
        return count.plus(self._traced(window, compared=compared), was_there=False)

    def _all_parts(self, digests: Sequence[str]) -> Part:
        """What all parts come to, whoever wrote them."""
        there = parts.numbers(self.folder)
        missing = sorted(set(range(len(digests))) - set(there))
        if missing:
            raise OutputError(
                f"{self.folder}: part {missing[0]} is not there, though all processes are done; let them write into "
                "one folder that all of them see"
            )
        if len(there) > len(digests):
            raise OutputError(
                f"{self.folder}: holds parts of prompts that are no longer there; give the same prompts, or name "
                "another folder with --out"
            )
        for number, digest in enumerate(digests):
            self._known(number, digest)
        return parts.counted(self.folder)

    def _known(self, number: int, digest: str) -> Part:
        part = parts.read(self.folder, number)
        if part.digest != digest:
            raise OutputError(
                f"{parts.path(self.folder, 'prompts', number)}: was made from other prompts than these; "
                "give the same prompts, or name another folder with --out"
            )
        return part

    def _traced(self, window: Window, *, compared: bool) -> Part:
        if not window.prompts:
            part = Part(window.digest, Tally(rejected=len(window.rejected)), {})
            parts.write(self.folder, window.number, parts.empty_tables(), part)
            return part
        trace = trace_settled(self.prepared, window.prompts, self.config, self.settled)
        changed = self.changed(trace, window.prompts) if compared else None
        part = parts.part_of(trace, window, changed)
        parts.write(self.folder, window.number, parts.tables_of(trace, window.places), part)
        return part

    def note(self, done: Part, digest: str | None, start: float) -> dict[str, Any]:
        """Write the manifest; with the digest of all prompts the sweep is complete."""
        plan, tally = self.settled.plan, done.tally
        content = {
            **versions(),
            "command": COMMAND,
            "config": self.config.to_dict() | {"batch_size": plan.sizes[0]},
            "model": model_facts(self.prepared),
            "prompts": {
                "count": tally.prompts,
                "sha256": digest,
                "rejected": tally.rejected,
                "source": self.source,
            },
            "counts": {"firings": tally.firings, "edges": tally.edges, "firings_per_head": done.firings_per_head},
            "not_finite": parts.not_finite(done),
            "near_ties": parts.near_ties(done),
            "paths_saturated": tally.paths_saturated,
            **({} if done.rounding is None else {ROUNDING: done.rounding}),
            "sweep": {
                "part_size": self.part_size,
                "bucket_edges": list(plan.edges),
                "batch_sizes": list(plan.sizes),
                "decomposition": DECOMPOSITION,
                "complete": digest is not None,
            },
            "device": device_facts(self.config),
            "files": sorted([*parts.SCHEMAS, MANIFEST, DECOMPOSITION, parts.REJECTED_FILE]),
            "seconds": {"total": round(time.perf_counter() - start, 3)},
        }
        write_manifest(self.folder, content)
        return content


def _placed(prompts: str | Iterable[Prompt], model: Model, seed: int, longest: int | None) -> Iterable[Placed]:
    if isinstance(prompts, str):
        return records(prompts, model.tokenizer, seed, longest)
    return ((f"prompt {place}", record_of(prompt)) for place, prompt in enumerate(prompts))


def _decomposition(model: Model, folder: Path, mark: str) -> Decomposition:
    """The decomposition that the sweep began with: another library or machine may round its vectors otherwise."""
    path = folder / DECOMPOSITION
    if path.exists():
        try:
            found, of_model = decompositions.read(path)
        except TraceFolderError:
            raise OutputError(
                f"{path}: is damaged, or of another version; end the sweep with the version that began it, or name "
                "another folder with --out"
            ) from None
        if of_model == mark:
            return found
    return decompose(model)


def _settled(prepared: Prepared, first: Window, config: TraceConfig, manifest: dict[str, Any] | None) -> Settled:
    shape = prepared.model.config
    if manifest is not None:
        noted = manifest["sweep"]
        plan = Plan(tuple(noted["bucket_edges"]), tuple(noted["batch_sizes"])).over(prepared.devices)
    else:
        lengths: Sequence[int] = [len(prompt.tokens) for prompt in first.prompts]
        kind = computing_device(config).platform
        plan = streaming_plan(lengths, shape.n_ctx, config.batch_size, shape.n_heads, kind, prepared.devices)
    return Settled(roots=parse_roots(config.roots, shape, first.prompts) if first.prompts else (), plan=plan)
