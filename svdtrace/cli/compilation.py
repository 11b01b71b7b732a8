"""JAX made ready for a command: its settings, and compiled programs kept on disk, so that only a first run compiles."""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
from pathlib import Path

import jax

from svdtrace.results.caches import bound, cache_folder, keep_within
from svdtrace.surroundings.jax_settings import settle
from svdtrace.surroundings.paths import path_of

_DIR = "jax_compilation_cache_dir"


def keep_compiled() -> None:
    """Settle what JAX computes by, and point its compilation cache at the user's cache folder.

    Left where it is if `JAX_COMPILATION_CACHE_DIR` says so; off where `SVDTRACE_CACHE` is empty or its folder cannot be
    written.

    Raises:
        SettingError: a variable that cannot be used.
    """
    settle()
    folder, room = cache_folder(), bound()
    elsewhere = jax.config.values[_DIR]
    if elsewhere:
        # May be a bucket's address, which is no path.
        jax.config.update(_DIR, str(path_of(elsewhere)) if elsewhere.startswith("~") else elsewhere)
        return
    if folder is None:
        return
    compiled = folder / "compiled"
    # Programs compiled for one processor may not run on another that shares the folder.
    folder = compiled / f"{jax.__version__}-{_processor()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK):
        jax.config.update(_DIR, str(folder))
        # Of some hundred programs most are small; compiling them anew would take most of a second start.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        # Once a process, at its end: JAX's own bound looks through the whole folder at every program.
        atexit.register(keep_within, compiled, room)


def _processor() -> str:
    """A name for this kind of processor and its instructions."""
    said = platform.machine() + platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        said += "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
    except OSError:
        pass
    return hashlib.sha256(said.encode()).hexdigest()[:16]
