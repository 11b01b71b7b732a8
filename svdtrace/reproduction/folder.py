"""The folder of a reproduction: `reproduction.parquet`, `effects.parquet`, the graph, a picture, `manifest.json`."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from svdtrace.graphs import formats
from svdtrace.output.writing import replaced_folder, write_manifest
from svdtrace.reproduction.comparison import rows_table
from svdtrace.reproduction.protocol import Reproduction


def write(done: Reproduction, folder: str | Path) -> None:
    """Write all files; `effects.parquet` only where there are effects.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    with replaced_folder(folder) as staging:
        pq.write_table(rows_table(done.rows), staging / "reproduction.parquet", compression="zstd")
        if done.effects is not None:
            pq.write_table(done.effects, staging / "effects.parquet", compression="zstd")
        formats.write(done.graph, staging / "graph.graphml")
        compared = {"rows": len(done.rows), "outside": len(done.wanting)}
        manifest = done.trace.manifest
        write_manifest(
            staging,
            {
                **manifest,
                "command": "reproduce",
                "config": manifest["config"] | {"roots": done.roots or "none"},
                "counts": manifest["counts"] | compared,
                "published_applies": done.applies,
            },
        )
