"""A folder of patches: table, picture and manifest, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.output.writing import replaced_folder, write_manifest

FIGURES = ("patching.svg", "patching.png")


def write(table: pa.Table, manifest: dict[str, Any], folder: str | Path) -> None:
    """Write `patching.parquet`, its picture and `manifest.json`.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    from svdtrace.patching.figure import patching_picture

    with replaced_folder(folder) as staging:
        pq.write_table(table, staging / "patching.parquet", compression="zstd")
        for name in FIGURES:
            patching_picture(table, staging / name)
        write_manifest(staging, manifest)
