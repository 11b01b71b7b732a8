"""A trace's or a sweep's folder, read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.errors import TraceFolderError
from svdtrace.folders.writing import CLOSELY, TABLES
from svdtrace.output.writing import MANIFEST
from svdtrace.surroundings.paths import path_of
from svdtrace.tracing import tables

if TYPE_CHECKING:
    from svdtrace.sweeping.swept import Swept
    from svdtrace.tracing.trace import Trace

NEEDED = {"version", "config", "model", "prompts", "counts"}


def read(folder: str | Path) -> Trace:
    """Read a trace from its folder, or a sweep's whole parts as one trace.

    Raises:
        TraceFolderError: no such folder, a file missing, damaged or of another form.
    """
    from svdtrace.tracing.trace import Trace

    found = opened(folder)
    if isinstance(found, Trace):
        return found
    whole: dict[str, list[pa.Table]] = {name: [] for name in TABLES}
    for part in found.parts():
        for name, tables_so_far in whole.items():
            tables_so_far.append(getattr(part, name))
    joined = {name: pa.concat_tables(each or [TABLES[name].empty_table()]) for name, each in whole.items()}
    return Trace(**joined, manifest=found.manifest)


def opened(folder: str | Path) -> Trace | Swept:
    """A trace from its folder, or a sweep, whose parts are then read one by one.

    Raises:
        TraceFolderError: see `read`.
    """
    from svdtrace.sweeping import swept

    folder = path_of(folder)
    manifest = _manifest(folder)
    if manifest.get("command") == "sweep":
        return swept.opened(folder, manifest)

    from svdtrace.tracing.trace import Trace

    prompts = _read_table(folder / "prompts.parquet", TABLES["prompts"])
    others = {
        name: _read_table(folder / f"{name}.parquet", TABLES[name], prompts) for name in TABLES if name != "prompts"
    }
    closely = {name: _closely(folder / f"{name}.parquet") for name in CLOSELY}
    return Trace(prompts, **others, manifest=manifest, **closely)


def _closely(path: Path) -> pa.Table | None:
    """A table of the first prompts, if it is there."""
    if not path.is_file():
        return None
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise TraceFolderError(f"{path}: cannot be read ({error}); trace anew into that folder") from None


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = f"{MANIFEST}: {error.strerror}" if isinstance(error, OSError) else error
        raise TraceFolderError(
            f"{folder}: holds no trace ({reason}); name a folder that svdtrace trace or sweep wrote"
        ) from None
    missing = NEEDED - manifest.keys() if isinstance(manifest, dict) else NEEDED
    if missing:
        lacking = ", ".join(sorted(missing))
        raise TraceFolderError(f"{folder / MANIFEST}: lacks {lacking}; name a folder that svdtrace trace wrote")
    if wrong := [name for name in sorted(NEEDED - {"version"}) if not isinstance(manifest[name], dict)]:
        raise TraceFolderError(f"{folder / MANIFEST}: {wrong[0]} is no object; trace anew into that folder")
    return manifest


def _read_table(path: Path, schema: pa.Schema, prompts: pa.Table | None = None) -> pa.Table:
    """A table with its columns in their order; what an earlier version did not write is looked up in `prompts` or null.

    Args:
        schema: its columns; further ones stay behind them.
    """
    try:
        table = pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        raise TraceFolderError(f"{path}: cannot be read ({error}); trace anew into that folder") from None
    if missing := [name for name in schema.names if name not in {*table.column_names, *tables.LATER}]:
        raise TraceFolderError(f"{path}: lacks the columns {', '.join(missing)}; trace anew into that folder")
    extra = [each for each in table.schema if each.name not in schema.names]
    whole = pa.schema([*schema, *extra], metadata=table.schema.metadata)
    try:
        if prompts is not None:
            table = tables.with_roles(prompts, table)
        return tables.with_nulls(table, schema).select(whole.names).cast(whole)
    except (pa.ArrowException, ValueError, IndexError) as error:
        raise TraceFolderError(f"{path}: has columns of another type ({error}); trace anew into that folder") from None
