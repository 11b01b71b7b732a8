"""`svdtrace bench`: what tracing costs, beside the forward pass alone and beside what the machine can do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import BUNDLED, Flag, Flat, Voice

if TYPE_CHECKING:
    from svdtrace.cli.terminal import Advance

INTERVENED = "ioi:64"
FILE = "bench.json"


@dataclass(frozen=True)
class Options:
    """Measure what tracing costs: time beside the plain forward pass, memory, first results, the share of the roof.

    With random weights of GPT-2 small's shape, some minutes: `svdtrace bench`

    All measurements, for a program to read: `svdtrace bench --full --json`

    Of your own model: `svdtrace bench --model FOLDER --out measured`

    What interventions cost, on the bundled model: `svdtrace bench --interventions`
    """

    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL", help_behavior_hint="")] = None
    """Hugging Face GPT-2 folder, hub id, or "bundled"; by default random weights of GPT-2 small's shape."""
    revision: Annotated[str | None, tyro.conf.arg(metavar="REVISION", help_behavior_hint="")] = None
    """Branch, tag or commit of a hub id; MODEL@REVISION means the same."""
    full: Flag[bool] = False
    """Run everything seven times instead of three; also more firings, long prompts, large weights' first result, and
    whether a sweep's time grows with the prompts alone. Takes several times as long."""
    interventions: Flag[bool] = False
    """Measure 500 interventions on 64 sentences instead; by default on the bundled model."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder to write bench.json into: new, empty, or an earlier result, which is replaced; by default none."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Measure; print one JSON object, or tables; write them where asked."""
    from svdtrace.output.writing import check_folder

    if options.out is not None:
        check_folder(options.out)

    from svdtrace.cli.terminal import console, print_json, progress

    with progress("measuring", options.voice) as advance:
        found = _interventions(options, advance) if options.interventions else _tracing(options, advance)
    if options.out is not None:
        _write(found, options.out)
    if options.voice.json:
        print_json(found)
    elif not options.voice.quiet:
        terminal = console()
        for table in _tables(found):
            terminal.print(table)
        if options.out is not None:
            terminal.say(f"Written to {options.out / FILE}")
    return 0


def _tracing(options: Options, advance: Advance | None) -> dict[str, Any]:
    from svdtrace import bench
    from svdtrace.cli.compilation import keep_compiled
    from svdtrace.cli.loading import source_of

    keep_compiled()
    source = None if options.model is None else source_of(options.model)
    return bench.run(bench.Subject(source, revision=options.revision), full=options.full, progress=advance)


def _interventions(options: Options, advance: Advance | None) -> dict[str, Any]:
    from svdtrace.bench import interventions
    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.options import ModelChoice, PromptChoice

    model = load_model(ModelChoice(options.model or BUNDLED, options.revision), options.voice)
    prompts = read_prompts(PromptChoice(prompts=INTERVENED), model.tokenizer, model.config)
    return interventions.run(model, prompts, repeats=7 if options.full else 3, progress=advance)


def _write(found: dict[str, Any], out: Path) -> None:
    import json

    from svdtrace.output.writing import replaced_folder, write_manifest
    from svdtrace.results.versions import versions

    with replaced_folder(out) as staging:
        (staging / FILE).write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        write_manifest(staging, {**versions(), "command": "bench"})


def _tables(found: dict[str, Any]) -> list[Any]:
    """Plain values as one table, each group of values as one of its own, each list of groups with their columns."""
    from svdtrace.cli.terminal import table

    plain = [(name, _shown(value)) for name, value in found.items() if not isinstance(value, dict | list)]
    tables = [table("bench", ("measure", "value"), plain, left=("measure",))]
    for name, group in found.items():
        if isinstance(group, dict):
            title = f"{name}, seconds: median (smallest to largest)" if name == "stages" else name
            rows = [(key, _shown(value)) for key, value in group.items()]
            tables.append(table(title, ("measure", "value"), rows, left=("measure",)))
        elif isinstance(group, list) and group:
            columns = list(group[0])
            rows = [[_shown(line[column]) for column in columns] for line in group]
            # Spaces let long names break over lines.
            columns = [column.replace("_", " ") for column in columns]
            tables.append(table(name, columns, rows, left=columns[:1]))
    return tables


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:.3g} ({value['min']:.3g} to {value['max']:.3g})"
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
