"""Versions of what computed a result."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

_LIBRARIES = ("jax", "jaxlib", "numpy")


def versions() -> dict[str, object]:
    """Our version, and those of the libraries that numbers depend on."""
    return {"version": _installed("svdtrace"), "libraries": {name: _installed(name) for name in _LIBRARIES}}


@cache
def _installed(name: str) -> str:
    """Read from the disk once: a sweep asks with every part."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "0+unknown"
