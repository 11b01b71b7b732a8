"""A folder of interventions: tables, figures and manifest, written whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from svdtrace.output import replaced_folder, write_manifest

if TYPE_CHECKING:
    from svdtrace.interventions.intervening import Interventions

FIGURES = ("effects.svg", "effects.png")


def write(found: Interventions, folder: str | Path) -> None:
    """Write `interventions.parquet`, `measures.parquet`, `summary.parquet`, figures and `manifest.json`.

    Raises:
        OutputError: see `svdtrace.output.replaced_folder`.
    """
    from svdtrace.interventions.figures import effects_picture

    summary = found.summary()
    tables = {"interventions": found.table, "measures": found.measures, "summary": summary}
    with replaced_folder(folder) as staging:
        for name, table in tables.items():
            pq.write_table(table, staging / f"{name}.parquet", compression="zstd")
        for name in FIGURES:
            effects_picture(summary, staging / name)
        write_manifest(staging, found.manifest)
