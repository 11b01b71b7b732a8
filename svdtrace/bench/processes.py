"""Measurements in processes of their own: peak memory, first results, and whether work grows with the prompts alone."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svdtrace.bench.subject import Subject
from svdtrace.errors import BenchError
from svdtrace.prompts.prompt import Prompt

CACHE = "SVDTRACE_CACHE"
COMMAND_LINE = "import sys; from svdtrace.cli import main; sys.exit(main())"
MIB_IN_GIB = 1024


def peak_memory(subject: Subject, prompts: int, tokens: int, **settings: Any) -> dict[str, Any]:
    """Peak memory of reading a model, tracing prompts and writing the tables, in a process of its own.

    Args:
        settings: of the trace, as `TraceConfig` has them.

    Returns:
        What was asked; firings, peaks in GiB, and `trace_seconds` of the trace and its tables, compiled on the way.

    Raises:
        BenchError: the process failed.
    """
    asked = {"prompts": prompts, "tokens": tokens, "settings": settings}
    found = _child({"kind": "trace", "subject": subject.to_dict(), **asked})
    return asked | {name: found[name] for name in ("firings", "peak_gib", "device_peak_gib", "trace_seconds")}


def linearity(subject: Subject, prompts: tuple[int, int], tokens: int, repeats: int) -> dict[str, Any]:
    """Two sweeps, the second of more prompts, each in a process of its own, after a first one that compiles.

    The fewer prompts are swept `repeats` times: the spread of their seconds is what a ratio can be off by on this
    machine. Preparing the model is in neither's seconds, since it does not depend on the prompts.

    Returns:
        Seconds, their ratio beside the prompts' ratio, the spread (largest less smallest over the median), and how
        much more memory, in MiB, the second sweep held.

    Raises:
        BenchError: a process failed.
    """
    few, many = prompts
    task = {"kind": "sweep", "subject": subject.to_dict(), "tokens": tokens, "part_size": few}
    short = _child({**task, "prompts": [few] * (repeats + 1)})
    long = _child({**task, "prompts": [few, many]})
    taken, seconds = short["seconds"][1:], long["seconds"][1]
    median = statistics.median(taken)
    return {
        "prompts": [few, many],
        "seconds": [median, seconds],
        "seconds_ratio": seconds / median,
        "prompts_ratio": many / few,
        "spread": (max(taken) - min(taken)) / median,
        "peak_gib": [short["peak_gib"], long["peak_gib"]],
        "more_memory_mib": (long["peak_gib"] - short["peak_gib"]) * MIB_IN_GIB,
    }


def first_result(model: str, prompts: str) -> dict[str, float]:
    """Seconds of `svdtrace trace`, from the start of its process to its end, with empty caches and once more.

    Args:
        model: what `--model` takes.
        prompts: what `--prompts` takes; one batch of them.

    Raises:
        BenchError: the command failed.
    """
    taken = []
    with tempfile.TemporaryDirectory() as place:
        arguments = ["trace", "--model", model, "--prompts", prompts, "--quiet", "--out", str(Path(place) / "out")]
        for _ in range(2):
            start = time.perf_counter()
            output_of([sys.executable, "-c", COMMAND_LINE, *arguments], cache=str(Path(place) / "cache"))
            taken.append(time.perf_counter() - start)
    return {"first_result_seconds": taken[0], "second_start_seconds": taken[1]}


def write_prompts(prompts: Sequence[Prompt], path: Path) -> None:
    """Prompts as a file that `--prompts` takes."""
    rows = [json.dumps({"tokens": list(prompt.tokens)}) + "\n" for prompt in prompts]
    path.write_text("".join(rows), encoding="utf-8")


def _child(task: dict[str, Any]) -> dict[str, Any]:
    """What `svdtrace.bench.child` prints."""
    return json.loads(output_of([sys.executable, "-m", "svdtrace.bench.child", json.dumps(task)]))


def output_of(command: list[str], cache: str = "") -> str:
    """Standard output of a command; its caches are in the folder given, or nowhere.

    Raises:
        BenchError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment | {CACHE: cache}, check=False)
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(
            f"a measurement's own process ended with status {ended.returncode} ({said}); it may need more memory than "
            "there is: close other programs, or measure a smaller model with --model"
        )
    return ended.stdout
