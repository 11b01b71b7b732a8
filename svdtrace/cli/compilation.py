"""Compiled programs kept on disk, so that only the first run of a command waits for the compiler."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import jax

from svdtrace.results.decompositions import cache_folder


def keep_compiled() -> None:
    """Point JAX's compilation cache at the user's cache folder.

    Left as it is where `JAX_COMPILATION_CACHE_DIR` says otherwise; off where `SVDTRACE_CACHE` is empty or its folder
    cannot be written.
    """
    folder = cache_folder()
    if folder is None or jax.config.values["jax_compilation_cache_dir"]:
        return
    # Programs compiled for one processor may not run on another that shares the folder.
    folder = folder / "compiled" / f"{jax.__version__}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Of some hundred programs most are small; compiling them anew would take most of a second start.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _processor() -> str:
    """A name for this kind of processor and its instructions."""
    said = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        said += "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        pass
    return hashlib.sha256(said.encode()).hexdigest()[:16]
