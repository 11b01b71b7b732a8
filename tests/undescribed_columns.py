"""Columns of a folder's tables whose files do not say what they mean."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from svdtrace.results.columns import meaning


def undescribed(folder: Path) -> list[str]:
    """Each such column, of every table below the folder; there must be one."""
    files = sorted(folder.rglob("*.parquet"))
    assert files, folder
    schemas = {str(file.relative_to(folder)): pq.read_schema(file) for file in files}
    return [f"{name}: {field.name}" for name, schema in schemas.items() for field in schema if not meaning(field)]
