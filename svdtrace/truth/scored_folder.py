"""The folder of a `score-truth`: tables, picture, manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from svdtrace.output.writing import replaced_folder, write_manifest
from svdtrace.truth.figures import curves_picture

if TYPE_CHECKING:
    from svdtrace.truth.scoring import Scored

ENDINGS = ("svg", "png")


def write(scored: Scored, folder: str | Path) -> None:
    """Write all files.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    with replaced_folder(folder) as staging:
        for name in ("scores", "edges"):
            pq.write_table(getattr(scored, name), staging / f"{name}.parquet", compression="zstd")
        for ending in ENDINGS:
            curves_picture(scored.scores, staging / f"curves.{ending}")
        write_manifest(staging, scored.manifest)
