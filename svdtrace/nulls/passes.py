"""One layer's firings under some nulls: the statistic's sums over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.nulls.buckets import Bucket
from svdtrace.nulls.draws import kind_key, partners, random_rotations, rank_groups
from svdtrace.nulls.edge_statistic import Firings, Layer, read, under_bases, under_prompts, under_slices
from svdtrace.tracing.attribute import Blocks, collect, in_blocks
from svdtrace.tracing.pipeline import all_writers, sides_of
from svdtrace.tracing.prepare import Prepared, writer_layers

OBSERVED = -1
# Numbers of nulls per call of a compiled program; what is held grows with it, and not with how many nulls there are.
NULLS_AT_ONCE = 10


@dataclass(frozen=True)
class Question:
    """What is asked of every layer: of which model, under which settings, from which seed, by which nulls."""

    prepared: Prepared
    config: TraceConfig
    seed: int
    kinds: tuple[str, ...]
    n_roles: int


@dataclass(frozen=True)
class LayerSums:
    """Sums over a bucket's firings of one layer.

    `statistic` by kind of null, [null side head role writer], float64, for the writers gathered; `size` [null head
    d_head+1], how many firings have a slice of that size in turned bases.
    """

    statistic: dict[str, np.ndarray]
    size: np.ndarray


def layer_sums(asked: Question, bucket: Bucket, layer: int, null: np.ndarray) -> LayerSums | None:
    """The statistic's sums over one layer's firings; none where there are no firings.

    Args:
        null: numbers of at most `NULLS_AT_ONCE` nulls; `OBSERVED` stands for what was observed.
    """
    rows = np.nonzero(bucket.firings.layer == layer)[0]
    if not len(rows):
        return None
    shape = asked.prepared.model.config
    sums: dict[str, np.ndarray] = {}
    size = np.zeros((len(null), shape.n_heads, shape.d_head + 1), np.int64)
    # Numbers beyond the last are computed and dropped, so that one program serves all.
    padded = np.pad(null, (0, NULLS_AT_ONCE - len(null)), mode="edge").astype(np.int32)
    drawn = _drawn(asked, bucket, layer, padded)
    for row, head in zip(*in_blocks(rows, bucket.firings.head[rows]), strict=True):
        firings = _firings(bucket, row, head, layer, shape)
        used = np.flatnonzero((row >= 0).any(axis=-1))
        for kind, found, sizes in _call(asked, bucket, firings, layer, padded, drawn):
            its = found[: len(null)]
            whole = sums.setdefault(kind, np.zeros((*its.shape[:2], shape.n_heads, *its.shape[3:])))
            for block in used:
                whole[:, :, head[block]] += its[:, :, block]
            if sizes is not None:
                _count_sizes(size, sizes[: len(null)], row >= 0, head)
    return LayerSums(statistic=sums, size=size)


def _drawn(asked: Question, bucket: Bucket, layer: int, null: np.ndarray) -> dict[str, Any]:
    """What the nulls need besides firings: a key, rotations, partners."""
    group = rank_groups(asked.prepared.readers[layer - 1].scale.within)
    key = jax.random.fold_in(kind_key(asked.seed, "bases"), layer)
    return {
        "slices": kind_key(asked.seed, "slices"),
        "bases": random_rotations(key, null, group, asked.prepared.dtype),
        "prompts": np.stack([partners(asked.seed, int(each), bucket.length) for each in null]).astype(np.int32),
    }


def _firings(bucket: Bucket, row: np.ndarray, head: np.ndarray, layer: int, shape: Any) -> Firings:
    """The firings of one call; an empty slot repeats row 0, and what comes of it is masked."""
    at = np.maximum(row, 0)
    prompt, dest, src = (getattr(bucket.firings, name)[at] for name in ("prompt", "dest", "src"))
    # A firing's name: its prompt's place, and its head and tokens as one number.
    pair = np.int64(layer * shape.n_heads) + head[:, None]
    for each in (dest, src):
        pair = pair * shape.n_ctx + each
    return Firings(
        blocks=Blocks(prompt=prompt, dest=dest, src=src, head=head),
        name=np.stack([bucket.place[prompt].astype(np.int64), pair], axis=-1).astype(np.uint32),
        filled=row >= 0,
        role=np.stack([bucket.role[prompt, dest], bucket.role[prompt, src]]),
        partnered=bucket.partnered[prompt],
    )


def _call(
    asked: Question, bucket: Bucket, firings: Firings, layer: int, null: np.ndarray, drawn: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Kind by kind: the sums, and for bases |S|."""
    prepared, config = asked.prepared, asked.config
    n_layers, sides = writer_layers(layer, prepared.model.config.n_layers), sides_of(config)
    given = Layer(
        layer=jnp.asarray(layer, jnp.int32),
        reader=prepared.readers[layer - 1],
        cores=prepared.cores(layer),
        b_O=jnp.asarray(prepared.model.params.blocks.b_O),
        tau=jnp.asarray(config.tau, prepared.dtype),
        coverage=jnp.asarray(config.coverage, prepared.dtype),
    )
    few: dict[str, Any] = {"method": config.method, "sides": sides, "n_roles": asked.n_roles}
    collected = collect(bucket.observed, firings.blocks, given.layer, n_layers=n_layers, sides=sides)
    found = read(collected, firings, given, method=config.method, sides=sides, all_writers=all_writers(config))
    if "slices" in asked.kinds:
        yield "slices", np.asarray(under_slices(found, firings, given, drawn["slices"], null, **few)), None
    sums, size = under_bases(found, firings, given, drawn["bases"], **few)
    yield "bases", np.asarray(sums), np.asarray(size)
    others: dict[str, Any] = {"all_writers": all_writers(config), "n_layers": n_layers}
    shuffled = under_prompts(bucket.observed, found, firings, given, drawn["prompts"], **few, **others)
    yield "prompts", np.asarray(shuffled), None


def _count_sizes(size: np.ndarray, sizes: np.ndarray, filled: np.ndarray, head: np.ndarray) -> None:
    null = np.arange(len(size))[:, None]
    its_head = np.broadcast_to(head[:, None], filled.shape)[filled]
    np.add.at(size, (null, its_head[None], sizes[:, filled]), 1)
