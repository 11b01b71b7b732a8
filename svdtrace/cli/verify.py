"""`svdtrace verify`: every law that applies to a model, with its ratio beside its threshold."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from svdtrace.cli.options import Flat, ModelChoice, PromptChoice, Voice

if TYPE_CHECKING:
    import gpt2jax
    from svdtrace.method.ratios import Ratio
    from svdtrace.prompts.prompt import Prompt

FILE = "verify.json"
OTHER_COLUMNS, LEAST_ROOM = 54, 20
"""What the table takes beside the places, in characters, and the least that is left to these."""


@dataclass(frozen=True)
class Options:
    """Try every law of the method on a model: what it computes must not hang on what it should not hang on.

    The bundled model, on random tokens: `svdtrace verify`

    Your own, on your own prompts: `svdtrace verify --model FOLDER --prompts FILE`

    A law fails where its ratio, error / (size × ulp × norm), reaches its threshold; the exit status is then 1. Of a
    folder that holds attention weights alone, the laws of their decomposition are tried.
    """

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder to write verify.json into: new, empty, or an earlier result, which is replaced; by default none."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Try the laws; print a table or one JSON object; 1 where a law fails."""
    from svdtrace.output.writing import check_folder

    if options.out is not None:
        check_folder(options.out)

    from gpt2jax.fingerprint import fingerprint
    from svdtrace.cli.terminal import print_json, progress
    from svdtrace.testing.verifying import verify
    from svdtrace.tracing.manifest import origin_facts

    model = _load(options)
    prompts = _prompts(options, model)
    with progress("trying laws", options.voice) as advance:
        found = verify(model, prompts, seed=options.prompts.seed, progress=advance)
    config = model.config
    shape = {name: getattr(config, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")}
    described = {"fingerprint": fingerprint(model), **origin_facts(model), "processing": model.processing, **shape}
    content = {"laws": [each.to_dict() for each in found], "model": described}
    if options.out is not None:
        _write(content, options.out)
    if options.voice.json:
        print_json(content)
    elif not options.voice.quiet:
        _show(found, options)
    return 0 if all(each.holds for each in found) else 1


def _load(options: Options) -> gpt2jax.Model:
    """The whole model, or its heads where the folder holds no more."""
    from gpt2jax.errors import MissingTensorsError
    from svdtrace.cli.loading import load_model

    try:
        return load_model(options.inputs, options.voice)
    except MissingTensorsError:
        return load_model(options.inputs, options.voice, parts="heads")


def _prompts(options: Options, model: gpt2jax.Model) -> list[Prompt] | None:
    from svdtrace.cli.loading import read_prompts

    if options.prompts.prompts is None and not options.prompts.text:
        return None
    return read_prompts(options.prompts, model.tokenizer, model.config)


def _write(content: dict[str, Any], out: Path) -> None:
    import json

    from svdtrace.output.writing import replaced_folder, write_manifest
    from svdtrace.results.versions import versions

    with replaced_folder(out) as staging:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        (staging / FILE).write_text(text + "\n", encoding="utf-8")
        write_manifest(staging, {**versions(), "command": "verify", "model": content["model"]})


def shorten_end(text: str, room: int) -> str:
    """The text, its end left out where it has no room."""
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _show(found: list[Ratio], options: Options) -> None:
    from svdtrace.cli.terminal import console, counted, table
    from svdtrace.testing.verifying import MOST_PROMPTS

    terminal = console()
    room = max(LEAST_ROOM, terminal.width - OTHER_COLUMNS)
    rows = [
        (each.law, f"{each.value:.3g}", f"{each.threshold:.3g}", each.verdict, shorten_end(each.worst_at, room))
        for each in found
    ]
    columns = ("law", "ratio", "threshold", "verdict", "worst at")
    terminal.print(table("Laws", columns, rows, left=("law", "verdict", "worst at")))
    failing = sum(not each.holds for each in found)
    terminal.say(f"{counted(len(found), 'law')}, {failing} failing; a law holds where its ratio is below its threshold")
    if options.prompts.prompts is not None or options.prompts.text:
        terminal.say(f"Tried on the first {MOST_PROMPTS} prompts at most")
    if options.out is not None:
        terminal.say(f"Written to {options.out / FILE}")
