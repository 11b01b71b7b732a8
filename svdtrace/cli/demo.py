"""`svdtrace demo`: what a trace is, shown on the bundled model in words."""

from __future__ import annotations

import shlex
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from svdtrace.cli.options import ConfigChoice, Flat, Folder, ModelChoice, PromptChoice, Voice, given
from svdtrace.config import TraceConfig

if TYPE_CHECKING:
    import gpt2jax
    from svdtrace.cli.findings import NameMover
    from svdtrace.prompts.prompt import Prompt
    from svdtrace.tracing.trace import Trace

TOLD = 3
"""Heads whose sources are told; the page shows all."""
PICTURES = ("circuit.svg", "circuit.png")


@dataclass(frozen=True)
class Options:
    """Find, trace and explain the heads that carry a name to where it is needed.

    On the bundled model and 64 sentences: `svdtrace demo`

    On your own model: `svdtrace demo --model FOLDER --out mine`
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=lambda: PromptChoice(prompts="ioi:64"))
    out: Folder = Path("demo")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    file: Annotated[ConfigChoice, Flat] = field(default_factory=ConfigChoice)
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Trace twice: from every firing to find the heads, then from these; write and tell."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.cli.findings import check_roles, name_movers, name_moving_heads, right_answers, roots_of
    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.summary import summary
    from svdtrace.cli.terminal import print_json, progress
    from svdtrace.output.seconds import count_seconds
    from svdtrace.tracing.trace import trace

    settings = TraceConfig() if options.file.config is None else TraceConfig.from_file(options.file.config)
    model = load_model(options.inputs, options.voice)
    prompts = read_prompts(options.prompts, model.tokenizer, model.config)
    check_roles(prompts)
    with progress("looking for the heads", options.voice, len(prompts)) as advance:
        whole = trace(model, prompts, replace(settings, roots="all"), progress=advance)
    heads = name_moving_heads(whole)
    with progress("tracing what they read", options.voice, len(prompts)) as advance:
        found = trace(model, prompts, replace(settings, roots=roots_of(heads)), progress=advance) if heads else whole
    _save(found, options.out)
    found.manifest["seconds"] = count_seconds(options.out, began)
    movers = name_movers(found, heads)
    if options.voice.json:
        right, asked = right_answers(found)
        told = {
            "right_answers": right,
            "asked": asked,
            "roots": roots_of(heads),
            "heads": [asdict(each) for each in movers],
        }
        print_json({"command": "demo", "out": str(options.out), **told, **summary(found)})
    elif not options.voice.quiet:
        _tell(model, prompts, found, movers, options)
    return 0


def _save(trace: Trace, out: Path) -> None:
    from svdtrace.folders.writing import write
    from svdtrace.output.writing import replaced_folder
    from svdtrace.pictures.figures import circuit_picture

    with replaced_folder(out) as staging:
        write(trace, staging, named=out)
        for name in PICTURES:
            circuit_picture(trace, staging / name)


def _tell(model: gpt2jax.Model, prompts: list[Prompt], trace: Trace, movers: list[NameMover], options: Options) -> None:
    from rich.padding import Padding

    from svdtrace.cli.findings import right_answers
    from svdtrace.cli.summary import show, summary
    from svdtrace.cli.terminal import console

    terminal = console()
    right, asked = right_answers(trace)
    answer = f"The model prefers the right name to the other one on {right} of {asked} sentences."
    paragraphs = [
        ("The task", _task(model, prompts[0])),
        *([("The answer", answer)] if asked else []),
        *_paragraphs(model, movers, len(prompts)),
    ]
    for number, (title, text) in enumerate(paragraphs, 1):
        terminal.print(f"{number}. {title}", style="bold")
        terminal.print(Padding(_plain(text), (0, 0, 1, 3)))
    show(terminal, summary(trace))
    terminal.print()
    for line in _next(options, movers):
        terminal.say(line)


def _task(model: gpt2jax.Model, prompt: Prompt) -> str:
    from gpt2jax.token_text import text_of_strings

    config = model.config
    text = text_of_strings(prompt.strings[: prompt.last + 1]).strip()
    answer, distractor = (
        "" if token is None or model.tokenizer is None else model.tokenizer.strings([token])[0].strip()
        for token in (prompt.answer, prompt.distractor)
    )
    return (
        f'A GPT-2 with {config.n_layers} layers of {config.n_heads} heads reads sentences such as "{text} …". '
        f"The next word is {answer}, who is named once, not {distractor}, who is named twice. In the circuit the right "
        "name's place is called IO, the two places of the other name S1 and S2, and the last word end."
    )


def _paragraphs(model: gpt2jax.Model, movers: list[NameMover], n_prompts: int) -> list[tuple[str, str]]:
    """Who carries the name, through how much, and who told them where it stands."""
    if not movers:
        return [
            ("Who carries the name", "No head above the first layer fires from end to IO on any of these sentences.")
        ]
    who = ", ".join(f"{mover.head} (on {mover.prompts} of {n_prompts} sentences)" for mover in movers)
    several = len(movers) > 1
    mean = sum(mover.mean_slice * mover.prompts for mover in movers) / sum(mover.prompts for mover in movers)
    width = model.config.d_head
    carried = (
        f"From end, {'these heads attend' if several else 'this head attends'} to IO more than to all the rest: {who}. "
        "What is read there is written at end, where the next word is chosen."
    )
    few = (
        f"Attention compares two tokens along {width} pairs of directions, the singular vectors of a head's query-key "
        f"matrix. When {'these heads read' if several else 'this head reads'} IO, {mean:.1f} of these {width} on "
        "average are enough to make the whole score (the slice S)."
    )
    return [
        ("Who carries the name", carried),
        ("Through how few dimensions", few),
        ("Who told them where it stands", "\n".join(map(_sources, movers[:TOLD]))),
    ]


def _sources(mover: NameMover) -> str:
    if not mover.sources:
        return f"{mover.head} reads nothing that an earlier head wrote."
    sides = {"dest": "as what to look for", "src": "as where to find it"}
    parts = [
        f"what {source.writer} wrote at {source.token}, {sides[source.side]} (on {source.prompts} sentences)"
        for source in mover.sources
    ]
    return f"{mover.head} reads " + "; ".join(parts) + "."


def _next(options: Options, movers: list[NameMover]) -> list[str]:
    from svdtrace.cli.terminal import invoked

    root = f"{movers[0].head}@end:IO" if movers else "logit"
    same = given(options.inputs, options.prompts, options.file)
    out = "" if options.out == Options().out else f" --out {shlex.quote(f'{options.out}-paper')}"
    alone = given(options.inputs, PromptChoice(bos=options.prompts.bos))
    return [
        f"Open {options.out / 'report.html'} in a browser; {options.out / PICTURES[0]} is a picture of the circuit.",
        f"Next, one head in the paper's way: {invoked()} trace{same} --roots '{root}' --method paper{out}",
        f"Or a sentence of your own:          {invoked()} tokens{alone} --text 'Then, Mary and John went to the shop.'",
    ]


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
