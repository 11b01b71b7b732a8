"""Writing results: whole or not at all, and never over what is not ours.

A result is written beside its place and moved there when it is complete, so that nothing half-written ever stands under
its final name.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from svdtrace.errors import OutputError, SvdtraceWarning
from svdtrace.output.locks import held, is_held
from svdtrace.output.staging import BUSY, UNFINISHED, clear_dead, free_name, is_unclaimed, staging_in
from svdtrace.surroundings.paths import path_of

MANIFEST = "manifest.json"
WAIT = 10.0
"""Seconds that a finished result waits for another that is being moved in."""
# What nobody names a folder.
FILE_ENDINGS = frozenset(
    ".csv .dot .gexf .graphml .gz .htm .html .jpg .json .jsonl .md .parquet .pdf .png .svg .tsv .txt .xml".split()
)


def check_folder(path: str | Path, *, alone: bool = True) -> Path:
    """The folder's absolute path, if a result may be written there: new, empty, or a result of ours.

    Args:
        path: the folder.
        alone: whether a sweep at work there is in the way.

    Raises:
        OutputError: it is a file, holds something else, is being written by a sweep, or cannot be written to.
        PathError: see `svdtrace.surroundings.paths.path_of`.
    """
    shown, target = path, _resolved(path)
    if target.exists():
        if not target.is_dir():
            raise OutputError(f"{shown}: is a file, not a folder; name another folder with --out")
        try:
            found = _held(target)
        except OSError as error:
            raise OutputError(f"{shown}: cannot be read ({error.strerror}); name another folder with --out") from None
        if found and not _is_ours(target):
            raise OutputError(
                f"{shown}: holds files that are no result of svdtrace (no {MANIFEST} of its own), and is left alone; "
                "name a new or empty folder with --out"
            )
        if alone and is_held(target / BUSY):
            raise OutputError(f"{shown}: another run is writing there; wait for it, or name another folder with --out")
    _probe(shown, target)
    return target


def names_file(out: Path, endings: Collection[str], source: Path) -> bool:
    """Whether `--out` names a file, by its ending, rather than a folder to write into.

    Args:
        out: what was named.
        endings: of the files that can be written, such as `.html`.
        source: the folder that is read, which must not be written over.

    Raises:
        OutputError: the place is that folder, or holds it, or is named like a file of another kind.
    """
    shown, out = out, path_of(out)
    if out.suffix in endings and not out.is_dir():
        return True
    if out.suffix.lower() in FILE_ENDINGS and not out.is_dir():
        raise OutputError(
            f"{shown}: a file that ends in {out.suffix} cannot be written; end it in {', '.join(endings)}"
        )
    place, read = _resolved(out), _resolved(source)
    if place == read or place in read.parents:
        raise OutputError(f"{shown}: holds the trace that is read; name another folder, or a file, with --out")
    return False


def _resolved(path: str | Path) -> Path:
    """An absolute path without links.

    Raises:
        OutputError: links that lead to themselves.
    """
    looped = OutputError(f"{path}: a link that leads to itself; name another folder with --out")
    try:
        found = path_of(path).resolve()
    except (OSError, RuntimeError):  # before Python 3.13, which leaves such a link as it is
        raise looped from None
    if any(each.is_symlink() for each in (found, *found.parents)):
        raise looped
    return found


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder to write a result into; it takes the place of `path` when the block ends without an error.

    Of an earlier result there, what its manifest lists is replaced; what somebody else put beside it stays. A result
    that another run wrote there meanwhile is moved aside, and a `SvdtraceWarning` says where to.

    Raises:
        OutputError: see `check_folder`; or the result cannot be moved in, and the message says where it is kept.
    """
    target = check_folder(path)
    existed, before = target.exists(), _mark(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside a new folder; inside an existing one, which may be a mount point or somebody's current folder.
        with staging_in(target if existed else target.parent) as staging:
            yield staging
            _list_files(staging)
            staging.chmod(0o777 & ~_umask())
            _move_in(path, staging, target, before)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: not written ({reason}); make room or name another folder with --out") from error


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """A path to write a file to; it takes the place of `path` when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
        PathError: see `svdtrace.surroundings.paths.path_of`.
    """
    target = path_of(path)
    if target.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with staging_in(target.parent) as folder:
            staging = folder / target.name
            yield staging
            staging.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); name another file") from None


def write_manifest(folder: Path, content: dict[str, object]) -> None:
    """Write `manifest.json`, the mark by which a folder is known as a result."""
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a manifest says; nothing where there is none."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def amend_manifest(folder: Path, changes: Mapping[str, object]) -> None:
    """Change a few things that the manifest of a written result says; it is whole at any moment.

    Raises:
        OutputError: it cannot be written.
    """
    with replaced_file(folder / MANIFEST) as staging:
        write_manifest(staging.parent, {**read_manifest(folder), **changes})


def result_files(folder: Path) -> list[str]:
    """The names of what belongs to the result in a folder; all that is there where its manifest does not say.

    A manifest may be anybody's: what it lists counts only where it stands in the folder itself.
    """
    held, listed = [entry.name for entry in _held(folder)], read_manifest(folder).get("files")
    return [name for name in held if name in listed] if isinstance(listed, list) else held


def _held(folder: Path) -> list[Path]:
    """Entries of a folder, what an interrupted run left behind aside."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(UNFINISHED)]


def _is_ours(folder: Path) -> bool:
    return {"version", "command"} <= read_manifest(folder).keys()


def _list_files(staging: Path) -> None:
    """Note in a new result's manifest what belongs to it."""
    content = read_manifest(staging)
    if content:
        write_manifest(staging, {**content, "files": sorted(entry.name for entry in staging.iterdir())})


def _probe(shown: str | Path, target: Path) -> None:
    """Try to write where the result will stand, before hours of work rather than after."""
    place = target
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OutputError(f"{shown}: cannot be written to ({error.strerror}); name another folder with --out") from None


def _mark(target: Path) -> tuple[int, int] | None:
    """What tells one result in a folder from the next; `None` where there is none."""
    with suppress(OSError):
        its = (target / MANIFEST).stat()
        return its.st_ino, its.st_mtime_ns
    return None


def _move_in(shown: str | Path, staging: Path, target: Path, before: tuple[int, int] | None) -> None:
    """Give a finished result its place; `before` marks what stood there when it was begun."""
    try:
        if not target.exists():
            # Another run may make the folder at this very moment.
            with suppress(OSError):
                staging.rename(target)
                return
        with held(target / BUSY, wait=WAIT):
            aside = _exchange(staging, target, keep=_mark(target) not in (None, before))
    except OSError as error:
        kept = free_name(staging.parent, f"{target.name}-unplaced")
        staging.rename(kept)
        reason = "another run is writing there" if isinstance(error, BlockingIOError) else error.strerror or error
        raise OutputError(
            f"{shown}: not written ({reason}); the result is kept in {kept}, move it to where it belongs"
        ) from error
    if aside is not None:
        said = f"{shown}: another run wrote there meanwhile; its result is now in {aside}"
        warnings.warn(said, SvdtraceWarning, stacklevel=4)


def _exchange(staging: Path, target: Path, *, keep: bool) -> Path | None:
    """Move the old entries out and the new ones in, the manifest last; all back where one cannot be moved.

    Returns:
        Where the old entries are, if they are to be kept.
    """
    clear_dead(target)
    coming = sorted(staging.iterdir(), key=lambda entry: entry.name == MANIFEST)
    ours = {*result_files(target), *(entry.name for entry in coming)}
    leaving = [entry for entry in target.iterdir() if entry.name in ours or is_unclaimed(entry)]
    with staging_in(target) as old:
        moves = [(entry, old / entry.name) for entry in leaving] + [(entry, target / entry.name) for entry in coming]
        done: list[tuple[Path, Path]] = []
        try:
            for source, destination in moves:
                source.rename(destination)
                done.append((source, destination))
        except OSError:
            for source, destination in reversed(done):
                destination.rename(source)
            raise
        if not keep:
            return None
        aside = free_name(target, "another-run")
        old.chmod(0o777 & ~_umask())
        return old.rename(aside)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
