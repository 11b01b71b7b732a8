"""What a manifest says: how a result came about (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from gpt2jax.params import Model
from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.method.relative import QUADRATURE
from svdtrace.prompts.hashing import prompts_hash
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.emptiness import LAYER_0
from svdtrace.results.versions import versions
from svdtrace.tracing.batching import automatic_batch_size
from svdtrace.tracing.devices import computing_device
from svdtrace.tracing.finite import not_finite
from svdtrace.tracing.near_ties import near_ties
from svdtrace.tracing.pipeline import BatchCounts
from svdtrace.tracing.prepare import Prepared


def origin_facts(model: Model) -> dict[str, str | None]:
    """Which commit of the hub a model is; nothing of a local folder, whose name means nothing elsewhere."""
    origin = model.origin
    return {"hub_id": origin.hub_id, "revision": origin.revision, "commit": origin.commit}


def model_facts(prepared: Prepared) -> dict[str, Any]:
    """What a manifest says of the model."""
    shape = prepared.model.config
    sizes = {name: getattr(shape, name) for name in ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab")}
    return {
        "fingerprint": prepared.fingerprint,
        **origin_facts(prepared.model),
        "processing": prepared.model.processing,
        "shape": sizes,
        **sizes,
    }


def device_facts(config: TraceConfig) -> dict[str, Any]:
    """What a manifest says of the device."""
    device = computing_device(config)
    return {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()}


def trace_manifest(
    prepared: Prepared,
    prompts: Sequence[Prompt],
    config: TraceConfig,
    parts: Sequence[BatchCounts],
    tables: tuple[pa.Table, pa.Table],
) -> dict[str, Any]:
    """The manifest of a trace, its seconds aside.

    Args:
        parts: what its batches counted; tables: its firings and edges.

    Returns:
        `prompts.count` are those that have rows; what is `not_finite` is counted and named beside them.
    """
    firings, edges = tables
    unusable = not_finite(prompts, chain.from_iterable(part.not_finite for part in parts))
    shape = prepared.model.config
    per_head = np.sum([part.firings_per_head for part in parts], axis=0)
    named = {f"{layer}.{head}": int(per_head[layer, head]) for layer, head in zip(*np.nonzero(per_head), strict=True)}
    return {
        **versions(),
        "command": "trace",
        "config": config.to_dict() | {"batch_size": _batch_size(prompts, config, shape.n_heads)},
        "model": model_facts(prepared),
        "prompts": {
            "count": len(prompts) - unusable["prompts"],
            "sha256": prompts_hash(prompts),
            "rejected": 0,
        },
        "counts": {
            "firings": firings.num_rows,
            "edges": edges.num_rows,
            "firings_per_head": named,
            LAYER_0: sum(part.of_layer_0 for part in parts),
        },
        "not_finite": unusable,
        "near_ties": near_ties(firings, edges, [part.undecided for part in parts]),
        **quadrature(inexact(firings), config),
        "paths_saturated": sum(part.paths_saturated for part in parts),
        "device": device_facts(config),
    }


def inexact(firings: pa.Table) -> int:
    """Of how many firings the integral over the path is off by more than `QUADRATURE`."""
    if "quadrature" not in firings.column_names:
        return 0
    return int(np.count_nonzero(firings["quadrature"].to_numpy() > QUADRATURE))


def quadrature(many: int, config: TraceConfig) -> dict[str, Any]:
    """What a manifest says of the integrals of relative attention; nothing under other methods."""
    return {"quadrature": {"above": QUADRATURE, "firings": many}} if config.method == RELATIVE else {}


def _batch_size(prompts: Sequence[Prompt], config: TraceConfig, n_heads: int) -> int:
    """What `auto` comes to for the longest prompts, so that a manifest repeats a run elsewhere."""
    if config.batch_size != "auto":
        return int(config.batch_size)
    longest = max(len(prompt.tokens) for prompt in prompts)
    return automatic_batch_size(longest, n_heads, computing_device(config).platform)
