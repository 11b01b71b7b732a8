"""Writing results: whole or not at all, and never over what is not ours.

A result is written beside its place and moved there when it is complete, so that nothing half-written ever stands under
its final name.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svdtrace.errors import OutputError

MANIFEST = "manifest.json"
_UNFINISHED = ".svdtrace-"
# What nobody names a folder.
FILE_ENDINGS = frozenset(
    ".csv .dot .gexf .graphml .gz .htm .html .jpg .json .jsonl .md .parquet .pdf .png .svg .tsv .txt .xml".split()
)


def check_folder(path: str | Path) -> Path:
    """The folder's absolute path, if a result may be written there: new, empty, or a result of ours.

    Raises:
        OutputError: it is a file, holds something else, or cannot be written to.
    """
    shown, target = path, Path(path).expanduser().resolve()
    if target.exists():
        if not target.is_dir():
            raise OutputError(f"{shown}: is a file, not a folder; name another folder with --out")
        try:
            held = _held(target)
        except OSError as error:
            raise OutputError(f"{shown}: cannot be read ({error.strerror}); name another folder with --out") from None
        if held and not _is_ours(target):
            raise OutputError(
                f"{shown}: holds files that are no result of svdtrace (no {MANIFEST} of its own), and is left alone; "
                "name a new or empty folder with --out"
            )
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
    if out.suffix in endings and not out.is_dir():
        return True
    if out.suffix.lower() in FILE_ENDINGS and not out.is_dir():
        raise OutputError(f"{out}: a file that ends in {out.suffix} cannot be written; end it in {', '.join(endings)}")
    place, read = out.expanduser().resolve(), source.expanduser().resolve()
    if place == read or place in read.parents:
        raise OutputError(f"{out}: holds the trace that is read; name another folder, or a file, with --out")
    return False


@contextmanager
def replaced_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder to write a result into; it takes the place of `path` when the block ends without an error.

    Of an earlier result there, what its manifest lists is replaced; what somebody else put beside it stays.

    Raises:
        OutputError: see `check_folder`.
    """
    target = check_folder(path)
    existed = target.exists()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside a new folder; inside an existing one, which may be a mount point or somebody's current folder.
        staging = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=target if existed else target.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written to ({error.strerror}); name another folder with --out") from None
    try:
        yield staging
        _list_files(staging)
        staging.chmod(0o777 & ~_umask())
        if existed:
            _exchange(staging, target)
        else:
            staging.rename(target)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{path}: not written ({reason}); make room or name another folder with --out") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """A path to write a file to; it takes the place of `path` when the block ends without an error.

    Raises:
        OutputError: the file cannot be written.
    """
    target = Path(path).expanduser()
    if target.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=target.parent) as folder:
            staging = Path(folder) / target.name
            yield staging
            staging.replace(target)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); name another file") from None


def write_manifest(folder: Path, content: dict[str, object]) -> None:
    """Write `manifest.json`, the mark by which a folder is known as a result."""
    (folder / MANIFEST).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def result_files(folder: Path) -> list[str]:
    """The names of what belongs to the result in a folder; all that is there where its manifest does not say."""
    return [str(name) for name in _manifest(folder).get("files", [entry.name for entry in _held(folder)])]


def _held(folder: Path) -> list[Path]:
    """Entries of a folder, what an interrupted run left behind aside."""
    return [entry for entry in folder.iterdir() if not entry.name.startswith(_UNFINISHED)]


def _is_ours(folder: Path) -> bool:
    return {"version", "command"} <= _manifest(folder).keys()


def _manifest(folder: Path) -> dict[str, Any]:
    """What a manifest says; nothing where there is none."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _list_files(staging: Path) -> None:
    """Note in a new result's manifest what belongs to it."""
    content = _manifest(staging)
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


def _exchange(staging: Path, target: Path) -> None:
    """Move the old entries out and the new ones in, the manifest last; all back where one cannot be moved."""
    old = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=target))
    coming = sorted(staging.iterdir(), key=lambda entry: entry.name == MANIFEST)
    ours = {*result_files(target), *(entry.name for entry in coming)}
    leaving = [
        entry
        for entry in target.iterdir()
        if entry not in (old, staging) and (entry.name in ours or entry.name.startswith(_UNFINISHED))
    ]
    moves = [(entry, old / entry.name) for entry in leaving] + [(entry, target / entry.name) for entry in coming]
    done: list[tuple[Path, Path]] = []
    try:
        for source, destination in moves:
            source.rename(destination)
            done.append((source, destination))
    except OSError:
        for source, destination in reversed(done):
            destination.rename(source)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
