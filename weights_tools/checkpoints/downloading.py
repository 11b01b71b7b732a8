"""A model fetched from the hub, every file held against the hash that the hub has for it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2jax.errors import CheckpointError
from gpt2jax.hub import Found, fetch, files_of
from gpt2jax.new_folder import new_folder
from gpt2jax.tokenizer_files import TOKENIZER_FILES

SHA256, GIT = "sha256", "git"
_BLOCK = 1 << 22


@dataclass(frozen=True)
class Fetched:
    """A file: its name, its length, which of the hub's hashes it has (`sha256` of what lies in large-file storage,
    `git` for other files' blob ids) and that hash; both `None` where the cache does not tell.
    """

    name: str
    n_bytes: int
    kind: str | None
    digest: str | None


@dataclass(frozen=True)
class Download:
    """A model in huggingface_hub's cache, every file of it as the hub has it."""

    found: Found
    files: tuple[Fetched, ...]

    @property
    def tokenizer(self) -> tuple[str, ...]:
        """The names of its tokenizer's files."""
        return tuple(each.name for each in self.files if each.name in TOKENIZER_FILES)


def downloaded(hub_id: str, revision: str | None, advance: Callable[[int, int], object] | None = None) -> Download:
    """Fetch what the cache lacks of a model, going on where a connection broke, and check all of it.

    Args:
        hub_id: `OWNER/NAME`, to which a revision may be added.
        revision: branch, tag or commit.
        advance: called with how many files are checked and how many there are.

    Raises:
        SourceError: it cannot be fetched; the message says what to do.
        CheckpointError: no safetensors weights, or a file with another hash, which is taken out of the cache.
    """
    found = fetch(hub_id, revision)
    paths = files_of(found.folder)
    files = []
    for path in paths:
        files.append(_checked(hub_id, path))
        if advance is not None:
            advance(len(files), len(paths))
    return Download(found, tuple(files))


def copy_to(download: Download, out: Path) -> None:
    """The model as a folder of plain files; it appears there complete or not at all.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    with new_folder(out) as folder:
        for each in download.files:
            shutil.copyfile(download.found.folder / each.name, folder / each.name)


def _checked(hub_id: str, path: Path) -> Fetched:
    """A file of a snapshot, whose content lies in the cache under the hash that the hub sent along."""
    blob = path.resolve()
    n_bytes = blob.stat().st_size
    if not re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", blob.name):
        # A file system without links: huggingface_hub keeps the file itself, and its hash nowhere.
        return Fetched(path.name, n_bytes, None, None)
    kind = SHA256 if len(blob.name) == 64 else GIT
    digest = hashlib.sha256() if kind == SHA256 else hashlib.sha1(b"blob %d\0" % n_bytes, usedforsecurity=False)
    for block in _blocks(blob):
        digest.update(block)
    if digest.hexdigest() != blob.name:
        path.unlink()
        blob.unlink()
        name = "SHA-256" if kind == SHA256 else "git hash"
        raise CheckpointError(
            f"{hub_id}: {path.name} has the {name} {digest.hexdigest()[:12]}…, but the hub's is {blob.name[:12]}…; "
            "it is taken out of the cache: run the command again"
        )
    return Fetched(path.name, n_bytes, kind, blob.name)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
