"""From what somebody wrote to a path."""

from __future__ import annotations

import os
from pathlib import Path

from svdtrace.errors import PathError

_LONGEST, _LONGEST_PART = 4095, 255


def path_of(written: str | os.PathLike[str]) -> Path:
    """The path that was meant: `~` and `~user` are home folders, since no shell expands them within quotes, after
    `--option=`, or in a file of variables.

    Raises:
        PathError: nothing is written, no file can have that name, or a user without a home folder is named.
    """
    text = os.fspath(written)
    if not text or "\0" in text:
        what = "an empty name" if not text else f"{text!r}: holds a null character"
        raise PathError(f"{what}; name a file or folder, . for the current one")
    _check_size(text)
    expanded = os.path.expanduser(text)  # noqa: PTH111  # Path.expanduser raises where this leaves the name as it is
    if text.startswith("~") and expanded == text:
        user = text.split("/", 1)[0]
        raise PathError(f"{text}: there is no home folder {user}; write the path in full, or ./{user} for such a name")
    return Path(expanded)


def _check_size(text: str) -> None:
    """Names that every system refuses, each call in its own way and some of them late."""
    try:
        written = os.fsencode(text)
    except UnicodeEncodeError:
        raise PathError(f"{text!a}: not a name that this system can write; name another file or folder") from None
    if len(written) > _LONGEST or any(len(part) > _LONGEST_PART for part in written.split(b"/")):
        raise PathError(f"{text[:40]}…: a name of {len(text)} characters, too long for a file or folder; shorten it")
