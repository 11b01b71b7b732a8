"""The folder of a `circuit`: tables, figures, manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from svdtrace.faithfulness.figures import Tables, agreement_picture, curves_picture
from svdtrace.output.writing import replaced_folder, write_manifest

ENDINGS = ("svg", "png")


def write(tables: Tables, manifest: dict[str, Any], folder: str | Path) -> None:
    """Write all files.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    with replaced_folder(folder) as staging:
        for name, table in tables.items():
            pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
        for ending in ENDINGS:
            curves_picture(tables, staging / f"curves.{ending}")
            agreement_picture(tables, manifest, staging / f"agreement.{ending}")
        write_manifest(staging, manifest)
