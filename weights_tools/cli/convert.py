"""`weights-tools convert`: a checkpoint in Hugging Face's format out of another, or of another dtype, or in shards."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from weights_tools.cli.options import Flat, Voice

if TYPE_CHECKING:
    from weights_tools.checkpoints.converting import Outcome, Source

_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Options:
    """Write a checkpoint as a Hugging Face GPT-2 folder: same function, other files.

    Names, order and layout change, numbers do not, unless --dtype asks for it. Prefixes of wrappers are stripped,
    tokenizer files come along. What would compute something else is refused by name; pickle files are never opened.

    In half the space, in shards: `weights-tools convert mymodel half --dtype bfloat16 --shard 500MB`

    What nanoGPT saved, its arrays as safetensors: `weights-tools convert ckpt.safetensors mymodel --from nanogpt`
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Hugging Face GPT-2 folder, .safetensors file or hub id; with --from a .safetensors or .npz file, or a folder with
    one. A config.json (or OpenAI's hparams.json) beside it says what shapes do not."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder to write, new or empty."""
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"] | None, tyro.conf.arg(metavar="DTYPE", help_behavior_hint="")
    ] = None
    """float32, float16 or bfloat16 for all weights; by default each keeps its own."""
    shard: Annotated[str | None, tyro.conf.arg(metavar="SIZE", help_behavior_hint="")] = None
    """Most bytes of a file, such as 500MB, 2GB or 750MiB; by default all is one file."""
    names: Literal["hf", "bare"] = "hf"
    """hf: transformer.h.0.…, as Hugging Face's GPT2LMHeadModel writes; bare: h.0.…, as the first GPT-2 was."""
    form: Annotated[
        Literal["nanogpt", "minGPT", "openai-npz", "transformer-lens"] | None,
        tyro.conf.arg(name="from", metavar="PROGRAM", help_behavior_hint=""),
    ] = None
    """nanogpt, minGPT, openai-npz or transformer-lens: the program that wrote IN, where that is not Hugging Face's."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Convert; print what was written."""
    from gpt2jax.new_folder import check_new
    from weights_tools.checkpoints.converting import Wanted, from_program, hugging_face, size_of, write

    out = check_new(options.out)
    shard = None if options.shard is None else size_of(options.shard)
    prefix = "transformer." if options.names == "hf" else ""
    wanted = Wanted(None if options.dtype is None else _DTYPES[options.dtype], shard, prefix)
    source = hugging_face(options.source) if options.form is None else from_program(options.form, options.source)
    options.voice.note(options.source, source.notes)
    with options.voice.progress("writing tensors", len(source.tensors)) as advance:
        outcome = write(source, out, wanted, advance)
    options.voice.show(_content(options, source, outcome), _lines(options, source, outcome))
    return 0


def _content(options: Options, source: Source, outcome: Outcome) -> dict[str, object]:
    return {
        "in": options.source,
        "out": str(options.out),
        "from": options.form or "hf",
        "files": outcome.files,
        "weights": outcome.n_values,
        "rounded": outcome.rounded,
        "largest_change": outcome.largest,
        "largest_change_in": outcome.largest_in,
        "notes": list(source.notes),
    }


def _lines(options: Options, source: Source, outcome: Outcome) -> list[str]:
    files = ", ".join(outcome.files) if len(outcome.files) < 4 else f"{len(outcome.files)} shards"
    lines = [f"{options.out}: {len(source.tensors)} tensors, {outcome.n_values:,} weights in {files}"]
    if outcome.rounded:
        share = outcome.rounded / outcome.n_values
        lines.append(
            f"{outcome.rounded:,} of them ({share:.1%}) rounded to {options.dtype}, by {outcome.largest:.3g} at most "
            f"(in {outcome.largest_in})"
        )
    else:
        lines.append("every weight as it was, bit for bit")
    return lines
