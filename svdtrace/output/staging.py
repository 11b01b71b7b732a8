"""A result is made in a folder beside its place; folders that dead runs left are told from those of live ones."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from svdtrace.output.locks import held

UNFINISHED = ".svdtrace-"
BUSY = f"{UNFINISHED}lock"
"""In a folder: the lock of a sweep while it writes there, and of whoever moves a result in."""
_LOCK = ".lock"


@contextmanager
def staging_in(place: Path) -> Iterator[Path]:
    """An empty folder for unfinished work, removed afterwards; other runs leave it alone as long as this one lives.

    Raises:
        OSError: it cannot be made.
    """
    clear_dead(place)
    folder = place / f"{UNFINISHED}{uuid.uuid4().hex[:12]}"
    # The lock is there before the folder: no folder of a live run is ever without.
    with held(_lock_of(folder)):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def clear_dead(place: Path) -> None:
    """Remove what dead runs left unfinished in a folder."""
    for lock in place.glob(f"{UNFINISHED}*{_LOCK}"):
        # Held by a live run, or not ours to remove.
        with suppress(OSError), held(lock):
            shutil.rmtree(lock.with_name(lock.name.removesuffix(_LOCK)))


def is_unclaimed(entry: Path) -> bool:
    """Whether an entry of a folder is unfinished work without a lock, that no run of this version began."""
    name = entry.name
    return name.startswith(UNFINISHED) and name != BUSY and not name.endswith(_LOCK) and not _lock_of(entry).exists()


def free_name(folder: Path, name: str) -> Path:
    """The first of `name-1`, `name-2`, … that is not there."""
    number = 1
    while os.path.lexists(folder / f"{name}-{number}"):
        number += 1
    return folder / f"{name}-{number}"


def _lock_of(folder: Path) -> Path:
    return folder.with_name(folder.name + _LOCK)
