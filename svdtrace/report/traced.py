"""What the page and the pictures read of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa


@runtime_checkable
class Traced(Protocol):
    """A trace, as `svdtrace.trace` makes and `svdtrace.read` reads it: its tables and its manifest."""

    @property
    def prompts(self) -> pa.Table:
        """`prompts.parquet`."""
        ...

    @property
    def firings(self) -> pa.Table:
        """`firings.parquet`."""
        ...

    @property
    def edges(self) -> pa.Table:
        """`edges.parquet`."""
        ...

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
