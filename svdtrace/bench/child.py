"""What is measured in a process of its own, so that its memory is that of the work alone.

    python -m svdtrace.bench.child '{"kind": "sweep", "subject": {…}, "prompts": [256], "tokens": 21, "part_size": 256}'

Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax

from svdtrace.bench.subject import Subject, random_prompts
from svdtrace.config import TraceConfig
from svdtrace.folders.writing import write_tables
from svdtrace.sweeping.running import sweep
from svdtrace.tracing.trace import trace

GIB = 2**30
_STATUS = Path("/proc/self/status")


def peak_gib() -> float:
    """The most memory that this process held at once, in GiB."""
    try:
        line = next(line for line in _STATUS.read_text("ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / GIB
    except (OSError, StopIteration):
        # Not first, because Linux lets a new process inherit the peak of the one that started it.
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024) / GIB


def device_peak_gib() -> float | None:
    """The same of the first device's own memory; `None` where it has none, or does not tell."""
    told = jax.local_devices()[0].memory_stats()
    return told["peak_bytes_in_use"] / GIB if told and "peak_bytes_in_use" in told else None


def traced(subject: Subject, prompts: int, tokens: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Trace random prompts and write the tables; the programs are compiled on the way."""
    model = subject.model()
    start = time.perf_counter()
    found = trace(model, random_prompts(model.config, prompts, tokens), TraceConfig.from_dict(settings))
    with tempfile.TemporaryDirectory() as folder:
        write_tables(found, Path(folder))
    return {"firings": found.firings.num_rows, "trace_seconds": time.perf_counter() - start}


def swept(subject: Subject, prompts: list[int], tokens: int, part_size: int) -> dict[str, Any]:
    """Sweep random prompts, one number of them after another; seconds from the ready model to the last part."""
    model, taken = subject.model(), []
    for count in prompts:
        with tempfile.TemporaryDirectory() as folder:
            done = sweep(model, random_prompts(model.config, count, tokens), Path(folder) / "out", part_size=part_size)
            taken.append(done.manifest["seconds"]["total"])
    return {"seconds": taken}


KINDS = {"trace": traced, "sweep": swept}


def main() -> None:
    """Do what the first argument asks for; print what came of it, and the peaks of memory."""
    task = json.loads(sys.argv[1])
    work, subject = KINDS[task.pop("kind")], Subject.from_dict(task.pop("subject"))
    start = time.perf_counter()
    found = work(subject, **task)
    found |= {"all_seconds": time.perf_counter() - start}
    json.dump(found | {"peak_gib": peak_gib(), "device_peak_gib": device_peak_gib()}, sys.stdout)


if __name__ == "__main__":
    main()
