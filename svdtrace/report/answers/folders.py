"""Folders of results, told apart by the command that their manifest names."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.errors import TraceFolderError
from svdtrace.output.writing import MANIFEST
from svdtrace.surroundings.paths import path_of

TABLES: dict[str, tuple[str, ...]] = {
    "intervene": ("summary",),
    "characterise": ("heads", "sizes", "tau", "tokens"),
    "circuit": (
        *("faithfulness", "agreement", "output_heads"),
        *("faithfulness_log_probability", "agreement_log_probability"),
    ),
}
"""The tables that the page reads, by command."""
TRIED = "interventions"
"""What `intervene` did prompt by prompt, which cards of single firings tell."""


@dataclass(frozen=True)
class Result:
    """What a command wrote.

    Args:
        command: which.
        folder: where, as it was named.
        manifest: its `manifest.json`.
        tables: those of `TABLES`, by name.
    """

    command: str
    folder: str
    manifest: dict[str, Any]
    tables: dict[str, pa.Table]


def read_results(folders: Iterable[Path], fingerprint: str | None = None) -> tuple[Result, ...]:
    """Read results that shall stand beside a trace.

    Args:
        folders: one of each command at most.
        fingerprint: of the traced model; another model's results are refused.

    Raises:
        TraceFolderError: no such result, a damaged one, another model's, or two of one command.
    """
    found: dict[str, Result] = {}
    for folder in folders:
        result = _read(folder)
        theirs = result.manifest.get("model", {}).get("fingerprint")
        if fingerprint is not None and theirs is not None and theirs != fingerprint:
            raise TraceFolderError(
                f"{folder}: is of another model ({theirs[:12]}…) than the trace ({fingerprint[:12]}…); name one of the "
                "same model"
            )
        if result.command in found:
            raise TraceFolderError(
                f"{folder}: is a second result of svdtrace {result.command}, beside {found[result.command].folder}; "
                "a page shows one of each, so leave one out"
            )
        found[result.command] = result
    return tuple(found.values())


def tried_in(folder: Path, manifest: Mapping[str, Any]) -> pa.Table:
    """`interventions.parquet` of a folder, on a trace's own model and prompts.

    Args:
        manifest: of the trace.

    Raises:
        TraceFolderError: no such result, a damaged one, or one of another model or of other prompts.
    """
    (result,) = read_results((folder,), manifest.get("model", {}).get("fingerprint"))
    if result.command != "intervene":
        raise TraceFolderError(f"{folder}: svdtrace {result.command} wrote it; name a folder of svdtrace intervene")
    if not same_prompts(result.manifest, manifest):
        raise TraceFolderError(
            f"{folder}: is of other prompts than the trace; run svdtrace intervene with the trace's own prompts"
        )
    if TRIED not in result.tables:
        raise TraceFolderError(f"{folder}: holds no {TRIED}.parquet; run svdtrace intervene anew")
    return result.tables[TRIED]


def same_prompts(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two manifests are of the same prompts, as far as they say."""
    hashes = [each.get("prompts", {}).get("sha256") for each in (one, other)]
    return None in hashes or hashes[0] == hashes[1]


def _read(folder: Path) -> Result:
    known = ", ".join(f"svdtrace {name}" for name in TABLES)
    try:
        manifest = json.loads((path_of(folder) / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise TraceFolderError(f"{folder}: holds no result ({error}); name a folder that {known} wrote") from None
    command = manifest.get("command") if isinstance(manifest, dict) else None
    if command not in TABLES:
        raise TraceFolderError(
            f'{folder / MANIFEST}: its command is "{command}", which this page has no section for; name a folder that '
            f"{known} wrote"
        )
    names = TABLES[command]
    if (path_of(folder) / f"{TRIED}.parquet").is_file():
        names = (*names, TRIED)
    tables = {name: _table(path_of(folder), name, command) for name in names}
    return Result(command, str(folder), manifest, tables)


def _table(folder: Path, name: str, command: str) -> pa.Table:
    path = folder / f"{name}.parquet"
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        remedy = f"run svdtrace {command} anew"
        raise TraceFolderError(f"{path}: cannot be read ({error}); {remedy}") from None
