"""The folder of a sweep: one sweep at a time, and only the one that was begun there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.output.locks import held, is_held
from svdtrace.output.staging import BUSY as LOCK
from svdtrace.output.writing import MANIFEST, check_folder, result_files
from svdtrace.sweeping.parts import REJECTED_FILE, SCHEMAS, UNFINISHED, unfinished

COMMAND = "sweep"
# A name that `svdtrace.output` takes for unfinished work: a folder that holds nothing else is empty.
_MANIFEST_ASIDE = f".svdtrace-{MANIFEST}"
DECOMPOSITION = "decomposition.safetensors"
_UNFINISHED = (
    *(f"{name}/part-*{UNFINISHED}" for name in SCHEMAS),
    *(f"{name}*{UNFINISHED}" for name in (REJECTED_FILE, DECOMPOSITION, _MANIFEST_ASIDE)),
)
"""What a killed sweep may leave."""
# Taken from the manifest when a sweep goes on, whatever is asked for now: it changes rounding alone.
_FREE = {"batch_size"}


def free_folder(folder: str | Path) -> Path:
    """The folder's absolute path, if a sweep may begin or go on there; nothing in it is touched.

    Raises:
        OutputError: another sweep is at work there, it holds something else, or it cannot be written to.
    """
    target = check_folder(folder, alone=False)
    if is_held(target / LOCK):
        raise _busy(folder)
    return target


@contextmanager
def claimed(folder: str | Path, was: Mapping[str, Any] | None) -> Iterator[Path]:
    """The folder, held against every other sweep until the block ends or the process dies.

    What another command left in it is cleared away. A folder that was made for nothing, since the block ended before a
    manifest was written, is removed.

    Args:
        folder: see `free_folder`.
        was: what `begun` said of it.

    Raises:
        OutputError: another sweep is or was at work there meanwhile, or it cannot be written to.
    """
    target = check_folder(folder, alone=False)
    made = [each for each in (target, *target.parents) if not each.exists()]
    try:
        target.mkdir(parents=True, exist_ok=True)
        with held(target / LOCK, wait=1.0):
            if begun(target) != was:
                raise OutputError(f"{folder}: another sweep was at work there meanwhile; give the command again")
            if was is None:
                _clear_other(target)
            for aside in chain.from_iterable(map(target.glob, _UNFINISHED)):
                aside.unlink(missing_ok=True)
            yield target
    except BlockingIOError:
        raise _busy(folder) from None
    except OSError as error:
        raise _unwritable(folder, error) from None
    finally:
        if not (target / MANIFEST).exists():
            _remove(made)


def begun(folder: Path) -> dict[str, Any] | None:
    """The manifest of the sweep that was begun here; `None` where there is none, or another command's.

    Raises:
        TraceFolderError: a damaged manifest.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return manifest if manifest["command"] == COMMAND else None
    except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise TraceFolderError(f"{path}: cannot be read ({error}); name another folder with --out") from None


def refuse_links(folder: Path, was: Mapping[str, Any] | None) -> None:
    """Refuse links in the places of the parts' folders, which would be written through.

    Args:
        folder: see `free_folder`.
        was: what `begun` said of it; of another command's result the links go with it.

    Raises:
        OutputError: there is one.
    """
    leaving = result_files(folder) if was is None and folder.exists() else ()
    for name in SCHEMAS:
        if (folder / name).is_symlink() and name not in leaving:
            raise OutputError(
                f"{folder / name}: is a link, and a sweep writes into no folders but its own; put what it leads to in "
                "its place, or name another folder with --out"
            )


def is_whole(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a sweep that has ended lacks none of its files."""
    return bool(manifest["sweep"]["complete"]) and all((folder / name).exists() for name in manifest["files"])


def _busy(folder: str | Path) -> OutputError:
    return OutputError(f"{folder}: another sweep is at work in this folder; wait for it, or name another with --out")


def _unwritable(folder: str | Path, error: OSError) -> OutputError:
    reason = error.strerror or error
    return OutputError(f"{folder}: cannot be written to ({reason}); name another folder with --out")


def _clear_other(folder: Path) -> None:
    """Remove another command's result, but for its manifest, which keeps the folder ours until that is replaced."""
    for name in result_files(folder):
        entry = folder / name
        if name != MANIFEST:
            # Of a link the link goes, never what it leads to.
            linked = entry.is_symlink() or not entry.is_dir()
            entry.unlink(missing_ok=True) if linked else shutil.rmtree(entry)


def _remove(made: Sequence[Path]) -> None:
    """Take back folders that were made, the innermost first; what somebody else put into one stays, and so does it."""
    with suppress(OSError):
        for each in made:
            each.rmdir()


def refuse_another(manifest: Mapping[str, Any], asked: Mapping[str, Any], folder: str | Path) -> None:
    """Hold what is asked for against what was begun.

    Args:
        manifest: of the sweep that was begun.
        asked: `config`, `fingerprint` and `part_size` of the one asked for; `None` for the part size that was.

    Raises:
        OutputError: they differ; the message names what.
    """
    was: dict[str, Any] = {
        **{name: value for name, value in manifest["config"].items() if name not in _FREE},
        "model": manifest["model"]["fingerprint"],
        "part_size": manifest["sweep"]["part_size"],
    }
    now: dict[str, Any] = {
        **{name: value for name, value in asked["config"].items() if name not in _FREE},
        "model": asked["fingerprint"],
        "part_size": was["part_size"] if asked["part_size"] is None else asked["part_size"],
    }
    changed = [f"{name} {was.get(name)} (now {now[name]})" for name in now if was.get(name) != now[name]]
    if changed:
        raise OutputError(
            f"{folder}: holds a sweep with {', '.join(changed)}; give the same settings and weights, or name another "
            "folder with --out"
        )


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Put a manifest in the place of the one before, whole; the first one makes the folder a sweep's.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        aside = unfinished(folder / _MANIFEST_ASIDE)
        aside.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        aside.replace(folder / MANIFEST)
    except OSError as error:
        raise OutputError(
            f"{folder / MANIFEST}: not written ({error.strerror}); make room and give the same command again"
        ) from None
