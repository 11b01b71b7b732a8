"""Where a trace computes, and in which precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import jax

from svdtrace.config import TraceConfig


@contextmanager
def precision(config: TraceConfig) -> Iterator[None]:
    """Within it float64 exists, if the config asks for it, on the CPU alone."""
    with ExitStack() as stack:
        if config.dtype == "float64":
            stack.enter_context(jax.enable_x64(True))
            # Positions are 64-bit then and tokens are not, of which strict promotion would complain.
            stack.enter_context(jax.numpy_dtype_promotion("standard"))
            stack.enter_context(jax.default_device(computing_device(config)))
        yield


def computing_devices(config: TraceConfig) -> list[Any]:
    """The devices that a trace runs on; float64 runs on the CPU (METHOD.md, section 13)."""
    return jax.local_devices(backend="cpu" if config.dtype == "float64" else None)


def computing_device(config: TraceConfig) -> Any:
    """The first of them; they are all of one kind."""
    return computing_devices(config)[0]


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
