"""`svdtrace sweep`: any number of prompts, traced part by part into a folder that survives being killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli import tell
from svdtrace.cli.options import Flag, Flat, Folder, Tracing

if TYPE_CHECKING:
    from svdtrace.sweeping.telling import Progress


@dataclass(frozen=True)
class Together:
    """Several processes, on one host or many, that write into one folder."""

    distributed: Flag[bool] = False
    """Sweep together with the other processes of this TPU pod, SLURM, Kubernetes or Open MPI job."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="")] = None
    """Where the first process is met, if nothing tells; then give the next two as well."""
    processes: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """How many processes there are."""
    process: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Which of them this is, from 0."""


@dataclass(frozen=True)
class Options(Tracing):
    """Trace any number of prompts, part by part; the same command again goes on where it was killed.

    Memory does not grow with the prompts. A prompt that cannot be used is set aside in rejected.parquet.

    Many made-up sentences: `svdtrace sweep --prompts ioi:20000 --out names`

    A file of your own, from what one head reads: `svdtrace sweep --prompts FILE.jsonl --roots '2.1@end:IO'`

    Then ask: `svdtrace query names "select layer, head, count(*) from firings group by all order by 3 desc"`
    """

    out: Folder = Path("sweep")
    """Folder to write: new, empty, or that of this same sweep, which then goes on."""
    part_size: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """Prompts a part, one file of each table; by default as many as take a third of a minute, at most 2048."""
    strict: Flag[bool] = False
    """Stop at the first prompt that cannot be used."""
    model_axis: int = 1
    """Devices over which each copy of the parameters is spread; the others share the prompts."""
    together: Annotated[Together, Flat] = field(default_factory=Together)


def run(options: Options) -> int:
    """Sweep; print the closing table."""
    from svdtrace.config import check_seed
    from svdtrace.errors import OptionError
    from svdtrace.output.writing import check_folder

    start = time.perf_counter()

    choice = options.prompts
    if choice.prompts is None or choice.text:
        raise OptionError("a sweep reads one source; give --prompts FILE, --prompts - or --prompts ioi:20000")
    check_seed(choice.seed, "--seed")
    check_folder(options.out, alone=False)

    together = options.together
    if not together.distributed and together.coordinator is None:
        return _swept(options, choice.prompts, start)

    from svdtrace.sweeping.processes import join, leaving

    with leaving(tell):
        join(together.coordinator, together.processes, together.process)
        return _swept(options, choice.prompts, start)


def _swept(options: Options, source: str, start: float) -> int:
    """This process's share of the sweep, or all of it; the command began at `start`."""
    from svdtrace.cli.loading import load_model
    from svdtrace.cli.sweep_progress import shown
    from svdtrace.cli.terminal import console, print_json
    from svdtrace.prompts.expected import expected
    from svdtrace.sweeping.processes import Processes
    from svdtrace.sweeping.running import sweep
    from svdtrace.tracing.sharding import device_mesh

    last: list[Progress] = []
    with shown(options.voice, source, options.out, expected(source)) as told:

        def follow(progress: Progress) -> None:
            last[:] = [progress]
            told.progress(progress)

        model = load_model(options.inputs, options.voice)
        mesh = None if options.model_axis == 1 else device_mesh(model_axis=options.model_axis)
        swept = sweep(
            model,
            source,
            options.out,
            options.settings,
            part_size=options.part_size,
            strict=options.strict,
            bos=options.prompts.bos,
            seed=options.prompts.seed,
            started=told.started,
            progress=follow,
            mesh=mesh,
        )
    if not Processes.here().leads:
        return 0
    content = {"command": "sweep", "out": str(options.out), **_summary(swept.manifest, last[-1])}
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        terminal = console()
        for line in _closing(content, time.perf_counter() - start):
            terminal.say(line)
    return 0


def _summary(manifest: dict[str, Any], last: Progress) -> dict[str, Any]:
    from svdtrace.cli.sweep_progress import speeds
    from svdtrace.results.emptiness import why_empty
    from svdtrace.tracing.rounding import ROUNDING

    plan, rates = manifest["sweep"], speeds(last)
    return {
        "prompts": manifest["prompts"]["count"],
        "rejected": manifest["prompts"]["rejected"],
        "firings": manifest["counts"]["firings"],
        "edges": manifest["counts"]["edges"],
        "near_ties": manifest["near_ties"],
        "not_finite": manifest["not_finite"],
        "resumed_prompts": last.earlier.prompts,
        "bucket_edges": plan["bucket_edges"],
        "batch_sizes": plan["batch_sizes"],
        "prompts_per_second": rates[0],
        "firings_per_second": rates[1],
        "seconds": manifest["seconds"],
        **({ROUNDING: manifest[ROUNDING]} if ROUNDING in manifest else {}),
        "why_empty": why_empty(manifest),
    }


def _closing(content: dict[str, Any], seconds: float) -> Iterator[str]:
    from svdtrace.tracing.finite import left_out
    from svdtrace.tracing.rounding import ROUNDING, sentence

    lengths = ", ".join(map(str, content["bucket_edges"]))
    out = content["out"]
    yield (
        f"{content['prompts']:,} prompts ({content['rejected']:,} rejected), {content['firings']:,} firings, "
        f"{content['edges']:,} edges; {content['near_ties']['pairs']:,} pairs near the threshold, "
        f"{content['near_ties']['firings']:,} firings and "
        f"{content['near_ties']['edges']:,} edges near a tie"
    )
    if content["resumed_prompts"]:
        yield f"{content['resumed_prompts']:,} of the prompts were there from an earlier run"
    yield f"Padded to at most {lengths} tokens; each length that occurs was compiled once"
    if content["resumed_prompts"] and not content["prompts_per_second"]:
        yield "Nothing was left to do"
    else:
        yield (
            f"{seconds:.1f} s: {content['prompts_per_second']:,.0f} prompts/s, "
            f"{content['firings_per_second']:,.0f} firings/s"
        )
    if (unusable := left_out(content["not_finite"])) is not None:
        yield unusable
    if content["why_empty"]:
        yield content["why_empty"]
    if ROUNDING in content:
        yield sentence(content[ROUNDING], content["prompts"])
    if content["rejected"]:
        yield f"Why prompts were rejected: {Path(out) / 'rejected.parquet'}"
    yield f"Written to {out}; next: svdtrace graph {out}, svdtrace report {out}, svdtrace query {out} 'SQL'"
