"""A folder of interventions: tables, figures and manifest, written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.output.writing import replaced_folder, write_manifest

FIGURES = ("effects.svg", "effects.png")


def write(tables: Mapping[str, pa.Table], manifest: dict[str, Any], folder: str | Path) -> None:
    """Write the tables as parquet, the figures of `summary`, and `manifest.json`.

    Args:
        tables: `interventions`, `measures`, `summary`.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    from svdtrace.interventions.figures import effects_picture

    with replaced_folder(folder) as staging:
        for name, table in tables.items():
            pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
        for name in FIGURES:
            effects_picture(tables["summary"], staging / name)
        write_manifest(staging, manifest)
