"""One layer's firings under some nulls: the statistic's sums over blocks of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.nulls.buckets import Bucket
from svdtrace.nulls.draws import close_groups, distinct_partners, firsts, kind_key, random_rotations, rank_groups
from svdtrace.nulls.edge_statistic import (
    Firings,
    Layer,
    Read,
    gather,
    read,
    under_bases,
    under_prompts,
    under_slices,
)
from svdtrace.tracing.attribute import Blocks, in_blocks
from svdtrace.tracing.over_keys import over_keys
from svdtrace.tracing.pipeline import all_writers, is_relative, sides_of
from svdtrace.tracing.prepare import Prepared, writer_layers

OBSERVED = -1
# Per call of a compiled program; what is held grows with them, and not with how many nulls there are.
NULLS_AT_ONCE = 64
CHOICES_AT_ONCE = 16
PROMPT_BLOCK = 4
"""Slots of a block whose firings share a prompt, too: a head fires in few places of a prompt."""


@dataclass(frozen=True)
class Question:
    """What is asked of every layer: of which model, under which settings, from which seed, by which nulls.

    With `blocks`, singular vectors whose σ lie that close to a neighbour's, relatively, come into a slice together.
    """

    prepared: Prepared
    config: TraceConfig
    seed: int
    kinds: tuple[str, ...]
    n_roles: int
    blocks: float | None = None

    @property
    def method(self) -> str:
        """Whose coefficients and slices: relative attention's are those of `exact`, of what is read over all keys."""
        return "exact" if is_relative(self.config) else self.config.method


@dataclass(frozen=True)
class Part:
    """Sums over one block's firings, which share a head.

    `statistic` [side role writer choice], for the writers gathered; `null` the numbers of the nulls and `choice` which
    of the statistics each of them has; `size` [d_head+1 null], how many firings have a slice of that size in turned
    bases.
    """

    kind: str
    head: int
    null: np.ndarray
    choice: np.ndarray
    statistic: np.ndarray
    size: np.ndarray | None = None


def layer_parts(asked: Question, bucket: Bucket, layer: int, null: np.ndarray, partner: np.ndarray) -> Iterator[Part]:
    """The statistic's sums over one layer's firings, block by block; nothing where there are no firings.

    Args:
        null: numbers of nulls; `OBSERVED` stands for what was observed.
        partner: of each prompt under each of them [null prompt].
    """
    rows = np.nonzero(bucket.firings.layer == layer)[0]
    if len(rows):
        given = _given(asked, layer)
        yield from _under_coefficients(asked, bucket, given, rows, null)
        yield from _under_partners(asked, bucket, given, rows, null, partner)


def _under_coefficients(
    asked: Question, bucket: Bucket, given: Layer, rows: np.ndarray, null: np.ndarray
) -> Iterator[Part]:
    """Random slices and bases: terms are read once, and weighed under some nulls after another."""
    layer = int(given.layer)
    few = {"method": asked.method, "sides": sides_of(asked.config), "n_roles": asked.n_roles}
    calls = [_firings(asked, bucket, layer, *call) for call in _calls(rows, bucket.firings.head[rows])]
    reads = [_read(asked, bucket, firings, given) for firings in calls]
    group = rank_groups(given.reader.scale.within)
    key = jax.random.fold_in(kind_key(asked.seed, "bases"), layer)
    for start in range(0, len(null), NULLS_AT_ONCE):
        now = null[start : start + NULLS_AT_ONCE]
        # Numbers beyond the last are computed and dropped, so that one program serves all.
        padded = np.pad(now, (0, NULLS_AT_ONCE - len(now)), mode="edge").astype(np.int32)
        rotation = random_rotations(key, padded, group, asked.prepared.dtype)
        for firings, found in zip(calls, reads, strict=True):
            if "slices" in asked.kinds:
                slices = under_slices(found, firings, given, kind_key(asked.seed, "slices"), padded, **few)
                yield from _parts("slices", firings, now, np.asarray(slices))
            sums, size = under_bases(found, firings, given, rotation, **few)
            yield from _parts("bases", firings, now, np.asarray(sums), np.asarray(size))


def _under_partners(
    asked: Question, bucket: Bucket, given: Layer, rows: np.ndarray, null: np.ndarray, partner: np.ndarray
) -> Iterator[Part]:
    """Shuffled prompts: what a firing has of each partner is worked out once, and every null picks from it."""
    layer, config, n_prompts = int(given.layer), asked.config, len(bucket.length)
    choice, which = distinct_partners(partner)
    many = len(choice)
    choice = np.pad(choice, ((0, -many % CHOICES_AT_ONCE), (0, 0)), mode="edge").astype(np.int32)
    few: dict[str, Any] = {"method": asked.method, "sides": sides_of(config), "n_roles": asked.n_roles}
    few |= {"all_writers": all_writers(config), "n_layers": _gathered(asked, layer)}
    shared = bucket.firings.head[rows] * n_prompts + bucket.firings.prompt[rows]
    for row, both in _calls(rows, shared, PROMPT_BLOCK):
        firings = _firings(asked, bucket, layer, row, both // n_prompts)
        starts = range(0, len(choice), CHOICES_AT_ONCE)
        sums = [
            under_prompts(bucket.observed, firings, given, choice[start : start + CHOICES_AT_ONCE], **few)
            for start in starts
        ]
        whole = np.concatenate([np.asarray(each) for each in sums], axis=-1)
        for block in _used(firings):
            head, prompt = divmod(int(both[block]), n_prompts)
            yield Part("prompts", head, null, which[:, prompt], whole[:, block])


def _parts(
    kind: str, firings: Firings, null: np.ndarray, sums: np.ndarray, size: np.ndarray | None = None
) -> Iterator[Part]:
    every = np.arange(len(null))
    for block in _used(firings):
        sizes = None if size is None else size[block, :, : len(null)]
        yield Part(kind, int(firings.blocks.head[block]), null, every, sums[:, block], sizes)


def _used(firings: Firings) -> np.ndarray:
    return np.flatnonzero(np.asarray(firings.filled).any(axis=-1))


def _calls(rows: np.ndarray, shared: np.ndarray, *size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows [block slot] and what a block's share [block], call by call."""
    return zip(*in_blocks(rows, shared, *size), strict=True)


def _gathered(asked: Question, layer: int) -> int:
    return writer_layers(layer, asked.prepared.model.config.n_layers)


def _given(asked: Question, layer: int) -> Layer:
    prepared = asked.prepared
    reader, first = prepared.readers[layer - 1], None
    if asked.blocks is not None:
        first = firsts(close_groups(jnp.square(reader.scale.root), asked.blocks), prepared.dtype)
    return Layer(
        layer=jnp.asarray(layer, jnp.int32),
        reader=reader,
        cores=prepared.cores(layer),
        b_O=jnp.asarray(prepared.model.params.blocks.b_O),
        tau=jnp.asarray(asked.config.tau, prepared.dtype),
        coverage=jnp.asarray(asked.config.coverage, prepared.dtype),
        first=first,
    )


def _read(asked: Question, bucket: Bucket, firings: Firings, given: Layer) -> Read:
    config, sides = asked.config, sides_of(asked.config)
    n_layers = _gathered(asked, int(given.layer))
    collected = gather(bucket.observed, firings, given.layer, n_layers=n_layers, sides=sides)
    return read(collected, firings, given, method=asked.method, sides=sides, all_writers=all_writers(config))


def _firings(asked: Question, bucket: Bucket, layer: int, row: np.ndarray, head: np.ndarray) -> Firings:
    """The firings of one call; an empty slot repeats row 0, and what comes of it is masked."""
    shape, at = asked.prepared.model.config, np.maximum(row, 0)
    prompt, dest, src = (getattr(bucket.firings, name)[at] for name in ("prompt", "dest", "src"))
    # A firing's name: its prompt's place, and its head and tokens as one number.
    pair = np.int64(layer * shape.n_heads) + head[:, None]
    for each in (dest, src):
        pair = pair * shape.n_ctx + each
    blocks, filled, over = Blocks(prompt=prompt, dest=dest, src=src, head=head), row >= 0, None
    if is_relative(asked.config):
        scale = asked.prepared.score_scale[layer]
        over = over_keys(bucket.observed, blocks, filled, np.int32(layer), scale, keys=asked.config.keys)
    return Firings(
        blocks=blocks,
        name=np.stack([bucket.place[prompt].astype(np.int64), pair], axis=-1).astype(np.uint32),
        filled=filled,
        role=np.stack([bucket.role[prompt, dest], bucket.role[prompt, src]]),
        partnered=bucket.partnered[prompt],
        over=over,
    )
