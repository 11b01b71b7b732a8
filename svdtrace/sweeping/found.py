"""What an earlier run of a sweep left, held against the prompts before anything is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from svdtrace.errors import OutputError
from svdtrace.prompts.hashing import hash_prompts
from svdtrace.sweeping import parts
from svdtrace.sweeping.parts import Part
from svdtrace.sweeping.windows import Rejected, Window


@dataclass
class Read:
    """What is remembered of the windows that were read: their digests, that of all prompts, who was rejected."""

    digests: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    prompts: Any = field(default_factory=hashlib.sha256)

    def add(self, window: Window) -> None:
        """Remember a window."""
        self.digests.append(window.digest)
        self.rejected += window.rejected
        hash_prompts(self.prompts, window.prompts)


@dataclass(frozen=True)
class Found:
    """The whole parts that are there, and of the windows up to the last of them those that are not."""

    numbers: frozenset[int]
    parts: Part
    lacking: tuple[Window, ...]


def found(folder: Path | None, stream: Iterator[Window], read: Read) -> Found:
    """Read windows until all parts of a folder are met; nothing is written.

    Args:
        folder: of a sweep that was begun; `None` where none was.
        stream: all windows; those up to the last part are taken from it.
        read: what is remembered of them.

    Raises:
        OutputError: a part was made from other prompts, or from prompts that are no longer there.
        TraceFolderError: a damaged part.
        PromptError: see `svdtrace.sweeping.windows.windows`.
    """
    its: list[Part] = []
    lacking: list[Window] = []
    if folder is None:
        return Found(frozenset(), parts.in_all(its), ())
    numbers = parts.numbers(folder)
    known = frozenset(numbers)
    for _ in range(numbers[-1] + 1 if numbers else 0):
        window = next(stream, None)
        if window is None:
            raise OutputError(
                f"{folder}: holds parts of prompts that are no longer there; give the same prompts, or name another "
                "folder with --out"
            )
        read.add(window)
        if window.number in known:
            its.append(same(folder, window.number, window.digest))
        else:
            lacking.append(window)
    return Found(known, parts.in_all(its), tuple(lacking))


def same(folder: Path, number: int, digest: str) -> Part:
    """A whole part, if it was made from a window with this digest.

    Raises:
        OutputError: it was not.
        TraceFolderError: it is damaged.
    """
    part = parts.read(folder, number)
    if part.digest != digest:
        raise OutputError(
            f"{parts.path(folder, 'prompts', number)}: was made from other prompts than these; give the same prompts, "
            "or name another folder with --out"
        )
    return part
