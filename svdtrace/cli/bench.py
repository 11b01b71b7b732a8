"""`svdtrace bench`: what tracing costs beside the forward pass alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from svdtrace.cli.options import Flag, Flat, Voice


@dataclass(frozen=True)
class Options:
    """Measure what tracing and decomposition cost beside the plain forward pass.

    With random weights of GPT-2 small's shape: `svdtrace bench`

    All measurements, for a program to read: `svdtrace bench --full --json`
    """

    model: str | None = None
    """Hugging Face GPT-2 folder, hub id, or "bundled"; by default random weights of GPT-2 small's shape."""
    full: Flag[bool] = False
    """Run everything seven times instead of three."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Measure; print one JSON object, or a table."""
    from svdtrace import bench
    from svdtrace.cli.loading import load_model
    from svdtrace.cli.terminal import console, print_json, progress

    model = load_model(options.model) if options.model is not None else None
    with progress("measuring", options.voice) as advance:
        found = bench.run(model, full=options.full, progress=advance)
    if options.voice.json:
        print_json(found)
    elif not options.voice.quiet:
        terminal = console()
        for table in _tables(found):
            terminal.print(table)
    return 0


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
