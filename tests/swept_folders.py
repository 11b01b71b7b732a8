"""Ten prompts swept in three parts, and all that a sweep's folder says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from safetensors.numpy import load_file
from sweep_prompts import prompt

import svdtrace
from svdtrace.sweeping.folder import LOCK

CONFIG = svdtrace.TraceConfig(threshold=0.3)
PART = 4
PROMPTS = [prompt(number) for number in range(10)]


def content(folder: Path) -> dict[str, pa.Table | bytes]:
    """All that a sweep says, its seconds aside."""
    files = sorted(each for each in folder.rglob("*") if each.is_file() and each.name not in (LOCK, "manifest.json"))
    found: dict[str, Any] = {
        # The header of a safetensors file is in no particular order.
        str(each.relative_to(folder)): each.read_bytes() if each.suffix == ".parquet" else arrays(each)
        for each in files
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    return {**found, "manifest": {name: value for name, value in manifest.items() if name != "seconds"}}


def arrays(file: Path) -> dict[str, tuple[Any, ...]]:
    return {name: (array.shape, array.tobytes()) for name, array in load_file(file).items()}


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """All of a folder, to the byte and to the moment of its last change."""
    return {
        str(each.relative_to(folder)): (each.stat().st_mtime_ns, each.read_bytes() if each.is_file() else b"")
        for each in [folder, *folder.rglob("*")]
    }
