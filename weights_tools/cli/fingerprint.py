"""`weights-tools fingerprint`: the name that caches and manifests have for a model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from weights_tools.cli.options import Flat, Revision, Source, Voice

if TYPE_CHECKING:
    from gpt2jax.stored_fingerprint import StoredFingerprint


@dataclass(frozen=True)
class Options:
    """Print a model's fingerprint, the name that caches and manifests have for it, and what that covers.

    Two checkpoints with the same fingerprint compute the same, whatever their files, names and dtypes. Read one tensor
    at a time.

    For example: `weights-tools fingerprint mymodel`
    """

    path: Source
    """Hugging Face GPT-2 folder, or hub id."""
    revision: Revision = None
    """Branch, tag or commit of a hub id; ID@REVISION means the same."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Read, hash, print."""
    from gpt2jax.hub import find_model

    found = _fingerprint(options, find_model(options.path, options.revision).folder)
    options.voice.note(options.path, found.notes)
    config = asdict(found.config)
    unused = {"bos_token_id", "eos_token_id"}
    covered = {name: value for name, value in config.items() if name not in unused}
    content = {
        "fingerprint": found.fingerprint,
        "path": options.path,
        "processing": "raw",
        "config": covered,
        "parameters": list(found.parameters),
        "weights": found.n_weights,
    }
    lines = [
        found.fingerprint,
        f"covers {found.n_weights:,} weights as float32 ({', '.join(found.parameters)})",
        f"and the configuration ({', '.join(f'{name} {value}' for name, value in covered.items())}),",
        "not the tokenizer, nor names, dtypes, order and headers of the files",
    ]
    options.voice.show(content, lines)
    return 0


def _fingerprint(options: Options, folder: Path) -> StoredFingerprint:
    """Of the whole model, as a trace has it; where the folder does not hold it, of its heads alone."""
    from gpt2jax.errors import MissingTensorsError
    from gpt2jax.stored_fingerprint import stored_fingerprint

    with options.voice.progress("hashing") as advance:
        try:
            return stored_fingerprint(folder, advance=advance)
        except MissingTensorsError:
            found = stored_fingerprint(folder, parts="heads", advance=advance)
    options.voice.note(options.path, ["the model is not whole; this is of its heads, as `svdtrace decompose` reads it"])
    return found
