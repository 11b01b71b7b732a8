"""A trace's folder: tables, manifest, graph and report, written whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.graphs import formats
from svdtrace.output.writing import replaced_folder, write_manifest
from svdtrace.results import circuit_graph
from svdtrace.results.in_parts import Tables, Traced
from svdtrace.tracing import tables

TABLES: dict[str, pa.Schema] = {"prompts": tables.PROMPTS, "firings": tables.FIRINGS, "edges": tables.EDGES}
CLOSELY = ("close_ups", "likeliest")
"""Tables of the first prompts alone, which a trace may lack."""


def write(trace: Traced, folder: str | Path, named: str | Path | None = None) -> None:
    """Write all files of a trace.

    Args:
        named: what the page shall call the folder, where it moves on.

    Raises:
        OutputError: see `svdtrace.output.writing.replaced_folder`.
    """
    from svdtrace.report import render

    with replaced_folder(folder) as staging:
        write_tables(trace, staging)
        circuit = circuit_graph.ours(trace.parts())
        formats.write(circuit, staging / "graph.json")
        formats.write(circuit, staging / "graph.graphml")
        (staging / "report.html").write_text(render(trace, folder=named or folder), encoding="utf-8")
        write_manifest(staging, trace.manifest)


def write_tables(trace: Tables, folder: Path) -> None:
    """Write the three tables as parquet, and what there is of the first prompts."""
    for name in (*TABLES, *CLOSELY):
        table = getattr(trace, name, None)
        if table is not None:
            pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
