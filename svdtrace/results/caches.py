"""Caches on disk: where they live, and how large each of them may grow.

There are two, of decompositions (57 MB for GPT-2 small, 984 MB for GPT-2 XL, one for each processing and dtype) and of
compiled programs. `SVDTRACE_CACHE` names the folder of both, by default `svdtrace` in the user's cache folder; an empty
value turns them off. `SVDTRACE_CACHE_GB` bounds each, by default 4: what was used least recently goes first, and the
newest stays whatever its size.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from pathlib import Path

from svdtrace.errors import PathError, SettingError
from svdtrace.surroundings.paths import path_of

CACHE_VARIABLE = "SVDTRACE_CACHE"
BOUND_VARIABLE = "SVDTRACE_CACHE_GB"
DEFAULT_GB = 4.0
_GB = 1e9
_BEING_WRITTEN = ".tmp"
_AN_HOUR = 3600.0


def cache_folder() -> Path | None:
    """Where caches of the user live, absolute, or `None` where they are turned off."""
    named = os.environ.get(CACHE_VARIABLE)
    base = named if named is not None else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = path_of(base).absolute()
    except PathError:  # an empty name, or a user without a home
        return None
    return folder if named is not None else folder / "svdtrace"


def bound() -> float:
    """How many bytes each cache may hold.

    Raises:
        SettingError: a bound that is no number, or below 0.
    """
    said = os.environ.get(BOUND_VARIABLE, "").strip()
    try:
        gigabytes = float(said) if said else DEFAULT_GB
    except ValueError:
        gigabytes = math.nan
    if not gigabytes >= 0:
        raise SettingError(f"{BOUND_VARIABLE} is {said}; give a number of gigabytes, 0 or more, such as {DEFAULT_GB:g}")
    return gigabytes * _GB


def mark_used(path: Path) -> None:
    """Note that a cache's file is used now, by a clock that is finer than the one files are written by."""
    now = time.time_ns()
    with suppress(OSError):
        os.utime(path, ns=(now, now))


def keep_within(folder: Path, room: float) -> None:
    """Remove a cache's files, those used least recently first, until they fit; the newest stays.

    Several processes may do so at once. When a file was used is what its times say, which some file systems keep by the
    day, or by when it was written.

    Args:
        folder: a cache's, with all below it.
        room: bytes.
    """
    now, found = time.time(), []
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process was faster
            its, used = path.stat(), max(path.stat().st_mtime, path.stat().st_atime)
            if path.is_file() and not (path.suffix == _BEING_WRITTEN and now - used < _AN_HOUR):
                found.append((used, its.st_mtime, path, its.st_size))
    found.sort(reverse=True)
    for place, (*_, path, size) in enumerate(found):
        room -= size
        if room < 0 and place:
            with suppress(OSError):
                path.unlink()
