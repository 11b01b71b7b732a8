"""One run of a sweep: what its processes do, part by part, when all is checked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.errors import OutputError
from svdtrace.output.writing import MANIFEST
from svdtrace.prompts.prompt import Prompt
from svdtrace.prompts.values import printable
from svdtrace.results import decompositions
from svdtrace.results.emptiness import LAYER_0
from svdtrace.results.versions import versions
from svdtrace.sweeping import parts
from svdtrace.sweeping.folder import COMMAND, DECOMPOSITION, begun, claimed, is_whole, write_manifest
from svdtrace.sweeping.found import Found, Read, found, same
from svdtrace.sweeping.parts import Part, RejectedWriter, Tally
from svdtrace.sweeping.processes import Processes
from svdtrace.sweeping.telling import Count, Progress, Start, Told
from svdtrace.sweeping.windows import Cut, Window
from svdtrace.tracing.finite import refuse_nothing_finite
from svdtrace.tracing.manifest import device_facts, model_facts, quadrature
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rounding import ROUNDED, ROUNDING
from svdtrace.tracing.trace import Settled, Trace, trace_settled


@dataclass(frozen=True)
class Sweep:
    """A finished sweep: its folder and its manifest."""

    folder: Path
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What stays the same from part to part.

    `changed` says what bfloat16 weights change in a trace of prompts; `manifest` is that of the sweep that goes on.
    """

    folder: Path
    prepared: Prepared
    config: TraceConfig
    settled: Settled
    cut: Cut
    source: str | None
    together: Processes
    changed: Callable[[Trace, Sequence[Prompt]], dict[str, Any]]
    manifest: dict[str, Any] | None

    def lead(self, stream: Iterator[Window], told: Told) -> Sweep:
        """All windows: this process's own are traced, every one is counted."""
        start, read = time.perf_counter(), Read()
        there = found(self.folder if self.manifest else None, stream, read)
        further = next(stream, None)
        begin = Start(len(there.numbers), there.parts.tally, self.cut.records, self.cut.tokens is not None)
        if self.manifest is not None and self._ended(self.manifest, there, further):
            return self._as_it_is(self.manifest, there, begin, told)
        with claimed(self.folder, self.manifest):
            self.note(there.parts, None, start)
            if not (self.folder / DECOMPOSITION).exists():
                held = self.prepared
                decompositions.write(self.folder / DECOMPOSITION, held.decomposition, held.fingerprint)
            self.together.wait("begun")
            told.started(begin)
            count = Count(start, there.parts, there.parts.tally)
            if there.numbers:
                told.progress(count.progress())
            left = chain([] if further is None else [further], stream)
            rejected, complete = RejectedWriter(self.folder), False
            try:
                rejected.add(read.rejected)
                for window in there.lacking:
                    count = self._done(window, count, told)
                for window in left:
                    read.add(window)
                    rejected.add(window.rejected)
                    count = self._done(window, count, told)
                self.together.wait("done")
                whole = self._all_parts(read.digests)
                refuse_nothing_finite(parts.not_finite(whole), whole.tally.prompts + whole.tally.not_finite)
                complete = True
            finally:
                rejected.close(complete=complete)
            return Sweep(self.folder, self.note(whole, read.prompts.hexdigest(), start))

    def follow(self, stream: Iterator[Window], told: Told) -> Sweep:
        """This process's own windows, and wait for the others."""
        known = set(parts.numbers(self.folder))
        count = Count(time.perf_counter())
        for window in stream:
            if window.number not in known:
                count = self._done(window, count, told)
        self.together.wait("done")
        return Sweep(self.folder, begun(self.folder) or {})

    def _ended(self, manifest: dict[str, Any], there: Found, further: Window | None) -> bool:
        """Whether a sweep has ended, none of its files is lacking, and these are its prompts.

        Raises:
            OutputError: it has, and these are more.
        """
        tally, noted = there.parts.tally, manifest["prompts"]
        every = tally.prompts + tally.rejected
        if not manifest["sweep"]["complete"] or there.lacking or every < noted["count"] + noted["rejected"]:
            return False
        if further is not None:
            raise OutputError(
                f"{self.folder}: holds a sweep of {every:,} prompts that has ended, and these are more; give the same "
                "prompts, or name another folder with --out"
            )
        return is_whole(self.folder, manifest)

    def _as_it_is(self, manifest: dict[str, Any], there: Found, begin: Start, told: Told) -> Sweep:
        """A sweep in which nothing is left to do."""
        self.together.wait("begun")
        told.started(replace(begin, left=False))
        told.progress(Count(time.perf_counter(), there.parts, there.parts.tally).progress())
        self.together.wait("done")
        return Sweep(self.folder, manifest)

    def _done(self, window: Window, count: Count, told: Told) -> Count:
        """Trace a window's part, if it is this process's own, and count it."""
        if not self.together.does(window.number):
            return count
        # Once for a sweep: the part remembers it, so that it is there exactly when the part is.
        lacking = self.config.dtype == ROUNDED and self.together.leads and count.done.rounding is None
        compared = lacking and parts.counted(self.folder).rounding is None
        show = partial(_show, told.progress, count)
        count = count.plus(self._traced(window, show, compared=compared))
        # Others' parts are counted at the end.
        if self.together.count == 1:
            self.note(count.done, None, count.start)
        told.progress(count.progress())
        return count

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
        return parts.in_all([same(self.folder, number, digest) for number, digest in enumerate(digests)])

    def _traced(self, window: Window, show: Callable[[int, int], None], *, compared: bool) -> Part:
        if not window.prompts:
            part = Part(window.digest, Tally(rejected=len(window.rejected)), {})
            parts.write(self.folder, window.number, parts.empty_tables(relative=self.config.method == RELATIVE), part)
            return part
        trace = trace_settled(self.prepared, window.prompts, self.config, self.settled, progress=show)
        changed = self.changed(trace, window.prompts) if compared else None
        part = parts.part_of(trace, window, changed)
        parts.write(self.folder, window.number, parts.tables_of(trace, window.places), part)
        return part

    def note(self, done: Part, digest: str | None, start: float) -> dict[str, Any]:
        """Write the manifest; with the digest of all prompts the sweep is complete.

        Its seconds are those of all runs.
        """
        plan, tally = self.settled.plan, done.tally
        before = 0.0 if self.manifest is None else self.manifest["seconds"]["total"]
        content = {
            **versions(),
            "command": COMMAND,
            "config": self.config.to_dict() | {"batch_size": plan.sizes[0]},
            "model": model_facts(self.prepared),
            "prompts": {
                "count": tally.prompts,
                "sha256": digest,
                "rejected": tally.rejected,
                "source": None if self.source is None else printable(self.source),
            },
            "counts": {
                "firings": tally.firings,
                "edges": tally.edges,
                "firings_per_head": done.firings_per_head,
                LAYER_0: tally.of_layer_0,
            },
            "not_finite": parts.not_finite(done),
            "near_ties": parts.near_ties(done),
            **quadrature(tally.inexact, self.config),
            "paths_saturated": tally.paths_saturated,
            **({} if done.rounding is None else {ROUNDING: done.rounding}),
            "sweep": {
                "part_size": self.cut.records,
                "part_tokens": self.cut.tokens,
                "bucket_edges": list(plan.edges),
                "batch_sizes": list(plan.sizes),
                "decomposition": DECOMPOSITION,
                "complete": digest is not None,
            },
            "device": device_facts(self.config),
            "files": sorted([*parts.SCHEMAS, MANIFEST, DECOMPOSITION, parts.REJECTED_FILE]),
            "seconds": {"total": round(before + time.perf_counter() - start, 3)},
        }
        write_manifest(self.folder, content)
        return content


def _show(progress: Callable[[Progress], None], count: Count, done: int, _total: int) -> None:
    progress(count.progress(done))
