"""Versions of what computed a result."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def versions() -> dict[str, object]:
    """Our version, and those of the libraries that numbers depend on."""
    try:
        own = version("svdtrace")
    except PackageNotFoundError:
        own = "0+unknown"
    return {"version": own, "libraries": {name: version(name) for name in ("jax", "jaxlib", "numpy")}}
