"""How long a whole command took, from its start to the end of its writing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from svdtrace.output.writing import amend_manifest, read_manifest
from svdtrace.surroundings.paths import path_of

REST = "other"
"""Stage of a manifest's `seconds`: loading, writing, and all else that is no stage of its own."""


def count_seconds(out: Path, began: float) -> dict[str, float]:
    """Note in a result's manifest how long its command took in all.

    Args:
        out: the folder of the result, written.
        began: `time.perf_counter()` at the start of the command.

    Returns:
        Seconds of each stage, of what is none, and in all.
    """
    folder, total = path_of(out), time.perf_counter() - began
    known = read_manifest(folder).get("seconds", {})
    stages = {name: seconds for name, seconds in known.items() if name != "total"}
    rest = max(0.0, total - sum(stages.values()))
    seconds = {**stages, REST: round(rest, 3), "total": round(total, 3)}
    amend_manifest(folder, {"seconds": seconds})
    return seconds


def of_stages(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage and their sum, the rest of the command aside: the same before and after it is known."""
    stages = {name: each for name, each in seconds.items() if name not in (REST, "total")}
    return {**stages, "total": sum(stages.values())}


def spent(seconds: Mapping[str, float]) -> str:
    """Seconds in all and of each stage, as a closing line has them."""
    stages = ", ".join(f"{stage} {each:.1f}" for stage, each in seconds.items() if stage != "total")
    return f"{seconds['total']:.1f} s" + (f" ({stages})" if stages else "")
