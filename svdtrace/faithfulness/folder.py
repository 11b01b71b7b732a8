"""The folder of a `circuit`: tables, figures, manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from svdtrace.faithfulness.figures import agreement_picture, curves_picture
from svdtrace.output import replaced_folder, write_manifest

if TYPE_CHECKING:
    from svdtrace.faithfulness.result import Circuit

TABLES = (
    "faithfulness",
    "agreement",
    "output_heads",
    "faithfulness_log_probability",
    "agreement_log_probability",
)
PICTURES = {"curves": curves_picture, "agreement": agreement_picture}


def write(circuit: Circuit, folder: str | Path) -> None:
    """Write all files.

    Raises:
        OutputError: see `svdtrace.output.replaced_folder`.
    """
    with replaced_folder(folder) as staging:
        for name in TABLES:
            pq.write_table(getattr(circuit, name), staging / f"{name}.parquet", compression="zstd")
        for name, draw in PICTURES.items():
            for ending in ("svg", "png"):
                draw(circuit, staging / f"{name}.{ending}")
        write_manifest(staging, circuit.manifest)
