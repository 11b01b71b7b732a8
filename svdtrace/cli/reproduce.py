"""`svdtrace reproduce`: the paper's protocol, published numbers beside measured ones."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from svdtrace.cli.options import Flat, Folder, ModelChoice, PromptChoice, Voice

if TYPE_CHECKING:
    from svdtrace.prompts.prompt import Prompt
    from svdtrace.reproduction.comparison import Row
    from svdtrace.reproduction.protocol import Reproduction

WANTING = 1
OWN_PROMPTS = "ioi:64"
"""For a model of which nothing was published."""


@dataclass(frozen=True)
class Options:
    """Run the protocol of the paper whose method this is, and print its numbers beside those that were published.

    On GPT-2 small, whose numbers they are: `svdtrace reproduce --model gpt2`

    On the bundled model, of which nothing was published: `svdtrace reproduce`

    Exit status 1 where a number lies outside of its tolerance.
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    out: Folder = Path("reproduce")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Measure, compare, write; print row by row."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.cli.findings import name_moving_heads, roots_of
    from svdtrace.cli.loading import load_model
    from svdtrace.cli.terminal import print_json, progress
    from svdtrace.output.seconds import count_seconds
    from svdtrace.reproduction.folder import write
    from svdtrace.reproduction.protocol import reproduce
    from svdtrace.reproduction.published import read_published

    published = read_published()
    model = load_model(options.inputs, options.voice)
    prompts = _prompts(options, str(published.prompts) if published.applies_to(model.config) else OWN_PROMPTS, model)
    with progress("tracing prompts", options.voice, len(prompts)) as advance:
        done = reproduce(
            model,
            prompts,
            published,
            find_roots=lambda trace: roots_of(name_moving_heads(trace)),
            progress=advance,
        )
    write(done, options.out)
    seconds = count_seconds(options.out, began)
    if options.voice.json:
        print_json({"command": "reproduce", "out": str(options.out), **_content(done), "seconds": seconds})
    elif not options.voice.quiet:
        _tell(done, options, seconds)
    return WANTING if done.wanting else 0


def _prompts(options: Options, default: str, model: Any) -> list[Prompt]:
    from svdtrace.cli.loading import read_prompts

    choice = options.prompts
    if choice.prompts is None and not choice.text:
        choice = replace(choice, prompts=default)
    return read_prompts(choice, model.tokenizer, model.config)


def _content(done: Reproduction) -> dict[str, Any]:
    return {
        "applies": done.applies,
        "roots": done.roots,
        "prompts": done.trace.prompts.num_rows,
        "compared": sum(row.inside is not None for row in done.rows),
        "outside": len(done.wanting),
        "rows": [asdict(row) for row in done.rows],
    }


def _tell(done: Reproduction, options: Options, seconds: dict[str, float]) -> None:
    from svdtrace.cli.terminal import console, table
    from svdtrace.output.seconds import spent
    from svdtrace.reproduction.comparison import TOO_SMALL

    terminal = console()
    if not done.applies:
        other = "These are not the 256 prompts" if done.shaped else "This model has not the shape of GPT-2 small,"
        terminal.print(
            f"{other} whose numbers were published: they do not apply, and only what was measured is shown.\n"
        )
    topics: dict[str, list[Row]] = {}
    for row in done.rows:
        topics.setdefault(row.topic, []).append(row)
    columns = ("number", "published", "measured", "tolerance", "") if done.applies else ("number", "measured", "")
    for topic, rows in topics.items():
        terminal.print(table(_title(topic), columns, [_cells(row, done.applies) for row in rows], left=("number", "")))
    if done.applies:
        verdict = f"{len(done.wanting)} of {len(done.rows)} numbers lie outside of their tolerance."
        terminal.print(verdict if done.wanting else f"All {len(done.rows)} numbers lie within their tolerance.")
        small = sum(row.note == TOO_SMALL for row in done.rows)
        if small:
            terminal.print(f"{small} of them are effects too small for their tolerance to tell them from none.")
    if not done.roots:
        terminal.print("No head fires from end to IO on these prompts, so that there is no graph.")
    traced = f"{done.trace.prompts.num_rows} prompts, roots {done.roots or 'none'}"
    terminal.say(f"{traced}; {spent(seconds)}; written to {options.out}")


def _title(topic: str) -> str:
    return f"{topic[0].upper()}{topic[1:]}"


def _cells(row: Row, applies: bool) -> tuple[str, ...]:
    if not applies:
        return row.name, _number(row.measured), row.note
    verdict = "inside" if row.inside else "OUTSIDE"
    note = f"{verdict}; {row.note}" if row.note else verdict
    return row.name, _number(row.published), _number(row.measured), _number(row.tolerance), note


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.4f}"
