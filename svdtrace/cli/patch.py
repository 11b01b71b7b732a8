"""`svdtrace patch`: what each head, and the residual at each role, gives back of what a corruption took."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flat, Folder, ModelChoice, PromptChoice, Voice

if TYPE_CHECKING:
    import gpt2jax
    from svdtrace.prompts.prompt import Prompt

STRONGEST = 8


@dataclass(frozen=True)
class Options:
    """Patch every head and every role's residual from clean prompts into corrupted ones; write table and heat maps.

    Each name's place taken by the other: `svdtrace patch --prompts ioi:64 --swap S2=IO`

    Twins of your own: `svdtrace patch --model FOLDER --prompts FILE --corrupt TWINS`
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    corrupt: Annotated[str | None, tyro.conf.arg(metavar="SOURCE", help_behavior_hint="")] = None
    """The corrupted prompts, given as --prompts is: one for each, of the same length, in the same order."""
    swap: Annotated[str, tyro.conf.arg(metavar="ROLE=ROLE")] = "S2=IO"
    """Without --corrupt: the role whose token is replaced, and the role whose token replaces it."""
    out: Folder = Path("patch")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Patch and write; print the closing table."""
    began = time.perf_counter()
    from svdtrace.output.writing import check_folder

    check_folder(options.out)

    from svdtrace.cli.loading import load_model, read_prompts
    from svdtrace.cli.terminal import console, print_json, progress
    from svdtrace.output.seconds import count_seconds
    from svdtrace.patching import patch_prompts

    model = load_model(options.inputs, options.voice)
    prompts = read_prompts(options.prompts, model.tokenizer, model.config)
    twins = _twins(options, prompts, model)
    with progress("patching", options.voice) as advance:
        found = patch_prompts(model, prompts, twins, progress=advance)
    found.save(options.out)
    seconds = count_seconds(options.out, began)
    rows = found.table.to_pylist()
    content = {
        "command": "patch",
        "out": str(options.out),
        **{name: found.manifest[name] for name in ("logit_difference", "divisor", "prompts")},
        "heads": _strongest(rows, "head"),
        "roles": _strongest(rows, "role"),
        "seconds": seconds,
    }
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        terminal = console()
        _show(terminal, content)
        terminal.say(f"Written to {options.out}; look at {options.out / 'patching.png'}")
    return 0


def _twins(options: Options, prompts: list[Prompt], model: gpt2jax.Model) -> list[Prompt]:
    from svdtrace import prompts as sources
    from svdtrace.patching import swapped

    if options.corrupt is None:
        return swapped(prompts, options.swap)
    choice = options.prompts
    return sources.read(options.corrupt, model.tokenizer, config=model.config, bos=choice.bos, seed=choice.seed)


def _strongest(rows: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    """The rows of heads or roles that give most back, or take most away."""
    mine = [row for row in rows if row[label] is not None and row["recovered"] is not None]
    return sorted(mine, key=lambda row: -abs(row["recovered"]))[:STRONGEST]


def _show(console: Any, content: dict[str, Any]) -> None:
    from svdtrace.cli.terminal import table
    from svdtrace.output.seconds import spent

    ends = content["logit_difference"]
    console.print(
        f"Logit difference, answer − distractor: {ends['clean']:.3f} on the clean prompts, {ends['corrupt']:.3f} on "
        f"the corrupted ones ({content['prompts']['count']:,} of each)"
    )
    if content["divisor"] is None:
        console.print(
            "Their mean fall is within five standard errors of 0: shares of it mean nothing and are left out."
        )
    for label, title in (("head", "Heads that give most of it back"), ("role", "Where the residual holds it")):
        rows = [
            (
                f"{row['layer']}.{row['head']}" if label == "head" else f"layer {row['layer']}@{row['role']}",
                f"{row['logit_difference']:.3f}",
                f"{row['recovered']:.1%}",
                f"{row['attribution']:.1%}",
            )
            for row in content[f"{label}s"]
        ]
        if rows:
            names = (label if label == "head" else "residual", "logit difference", "given back", "by gradient")
            console.print(table(title, names, rows, left=(names[0],)))
    console.print(spent(content["seconds"]))
