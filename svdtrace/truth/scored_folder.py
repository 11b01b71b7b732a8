"""The folder of a `score-truth`: tables, picture, manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.output.writing import replaced_folder, write_manifest
from svdtrace.truth.figures import curves_picture
from svdtrace.truth.power_figure import power_picture

ENDINGS = ("svg", "png")


def write(tables: Mapping[str, pa.Table], manifest: dict[str, Any], folder: str | Path) -> None:
    """Write all files.

    Args:
        tables: `scores`, `edges` and, if it was measured, `power`.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    with replaced_folder(folder) as staging:
        for name, table in tables.items():
            pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
        for ending in ENDINGS:
            curves_picture(tables["scores"], staging / f"curves.{ending}")
            if "power" in tables:
                power_picture(tables["power"], staging / f"power.{ending}")
        write_manifest(staging, manifest)
