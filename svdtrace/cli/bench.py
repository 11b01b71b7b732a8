"""`svdtrace bench`: what tracing costs beside the forward pass alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from svdtrace.cli.options import BUNDLED, Flag, Flat, Voice

INTERVENED = "ioi:64"


@dataclass(frozen=True)
class Options:
    """Measure what tracing and decomposition cost beside the plain forward pass.

    With random weights of GPT-2 small's shape: `svdtrace bench`

    All measurements, for a program to read: `svdtrace bench --full --json`

    What interventions cost, on the bundled model: `svdtrace bench --interventions`
    """

    model: str | None = None
    """Hugging Face GPT-2 folder, hub id, or "bundled"; by default random weights of GPT-2 small's shape."""
    full: Flag[bool] = False
    """Run everything seven times instead of three."""
    interventions: Flag[bool] = False
    """Measure 500 interventions on 64 sentences instead; by default on the bundled model."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Measure; print one JSON object, or a table."""
    from svdtrace.cli.terminal import console, print_json, progress

    with progress("measuring", options.voice) as advance:
        found = _interventions(options, advance) if options.interventions else _tracing(options, advance)
    if options.voice.json:
        print_json(found)
    elif not options.voice.quiet:
        terminal = console()
        for table in _tables(found):
            terminal.print(table)
    return 0


def _tracing(options: Options, advance: Any) -> dict[str, Any]:
    from svdtrace import bench
    from svdtrace.cli.loading import load_model

    model = load_model(options.model) if options.model is not None else None
    return bench.run(model, full=options.full, progress=advance)


def _interventions(options: Options, advance: Any) -> dict[str, Any]:
    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.options import PromptChoice
    from svdtrace.interventions import bench

    model = load_model(options.model or BUNDLED)
    prompts = read_prompts(PromptChoice(prompts=INTERVENED), model.tokenizer, model.config)
    return bench.run(model, prompts, repeats=7 if options.full else 3, progress=advance)


def _tables(found: dict[str, Any]) -> list[Any]:
    """Plain values as one table, each group of values as one of its own."""
    from svdtrace.cli.terminal import table

    plain = [(name, _number(value)) for name, value in found.items() if not isinstance(value, dict | list)]
    tables = [table("Bench", ("measure", "value"), plain, left=("measure",))]
    for name, group in found.items():
        if isinstance(group, dict):
            rows = [(key, _number(value)) for key, value in group.items()]
            tables.append(table(name, ("measure", "value"), rows, left=("measure",)))
    return tables


def _number(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median']:.3g} s ({value['min']:.3g} to {value['max']:.3g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
