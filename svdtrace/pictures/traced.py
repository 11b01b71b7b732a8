"""What the pictures read of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from svdtrace.results.in_parts import Tables


@runtime_checkable
class Traced(Tables, Protocol):
    """A trace, as `svdtrace.trace` makes and `svdtrace.read` reads it: its tables and its manifest."""

    @property
    def manifest(self) -> dict[str, Any]:
        """`manifest.json`."""
        ...


def model_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of the model, its shape (`n_layers`, `n_heads`, `d_head`, …) beside the rest.

    Args:
        manifest: of a trace.
    """
    model = dict(manifest.get("model", {}))
    return {**model.pop("shape", {}), **model}
