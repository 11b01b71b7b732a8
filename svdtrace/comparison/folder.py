"""The folder of a comparison: tables, picture, manifest, written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.comparison.figure import comparison_picture
from svdtrace.output.writing import replaced_folder, write_manifest

ENDINGS = ("svg", "png")


def write(tables: Mapping[str, pa.Table], manifest: dict[str, Any], folder: str | Path) -> None:
    """Write all files.

    Args:
        tables: `effects`, `removals` and `agreement`.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    with replaced_folder(folder) as staging:
        for name, table in tables.items():
            pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
        for ending in ENDINGS:
            comparison_picture(
                tables["effects"], tables["removals"], tables["agreement"], staging / f"compare.{ending}"
            )
        write_manifest(staging, manifest)
