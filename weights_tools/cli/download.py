"""`weights-tools download`: a model from the hub, checked against the hub's hashes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from weights_tools.cli.options import Flat, Revision, Voice, aligned

if TYPE_CHECKING:
    from weights_tools.checkpoints.downloading import Download


@dataclass(frozen=True)
class Options:
    """Fetch a GPT-2 from the Hugging Face hub: safetensors weights, configuration, tokenizer files of every kind.

    A connection that breaks is taken up where it broke, what is there already is not fetched again, and every file is
    held against the hub's own hash. Private models: `hf auth login`, or HF_TOKEN. Afterwards --model ID works offline.

    For example: `weights-tools download openai-community/gpt2`

    As a folder of its own: `weights-tools download openai-community/gpt2 --out gpt2`
    """

    id: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")]
    """NAME or OWNER/NAME on the hub; ID@REVISION names a revision too."""
    revision: Revision = None
    """Branch, tag or commit."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder to copy the model into, new or empty; by default it stays in huggingface_hub's cache alone."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Fetch, check, copy; print what was fetched."""
    from gpt2jax.new_folder import check_new
    from weights_tools.checkpoints.downloading import copy_to, downloaded

    out = None if options.out is None else check_new(options.out)
    if options.voice.quiet:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    with options.voice.progress("checking files") as advance:
        download = downloaded(options.id, options.revision, advance)
    if out is not None:
        copy_to(download, out)
    unknown = [each.name for each in download.files if each.kind is None]
    if unknown:
        options.voice.note(options.id, [f"not checked, since the cache keeps no hashes here: {', '.join(unknown)}"])
    options.voice.show(_content(options, download), _lines(options, download))
    return 0


def _content(options: Options, download: Download) -> dict[str, object]:
    found = download.found
    return {
        "id": found.hub_id,
        "revision": found.revision,
        "commit": found.commit,
        "folder": str(options.out or found.folder),
        "files": [asdict(each) for each in download.files],
        "tokenizer": list(download.tokenizer),
    }


def _lines(options: Options, download: Download) -> list[str]:
    found = download.found
    rows = [(each.name, f"{each.n_bytes:,}", each.kind or "—", (each.digest or "—")[:16]) for each in download.files]
    checked = sum(each.kind is not None for each in download.files)
    return [
        f"{found.hub_id}: commit {found.commit}; {checked} of {len(rows)} files checked against the hub's hashes",
        "",
        *aligned(("file", "bytes", "hash", "begins"), rows),
        "",
        f"tokenizer: {', '.join(download.tokenizer) or 'none; prompts must be token ids'}",
        f"in {options.out or found.folder}",
    ]
