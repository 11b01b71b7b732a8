"""Candidate edges: how many there are, and those that were observed at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from svdtrace.config import TraceConfig
from svdtrace.nulls.buckets import Bucket, buckets, role_names
from svdtrace.nulls.draws import KINDS, partners
from svdtrace.nulls.passes import OBSERVED, Part, Question, layer_parts
from svdtrace.prompts.prompt import Prompt
from svdtrace.results.circuit_graph import OTHER
from svdtrace.tracing.pipeline import all_writers, is_relative, sides_of
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.rows import SIDES, WriterOrder

SAME_EVERYWHERE = ("attn_bias.", "pos", "const")
Looked = Callable[[int, int], None]


@dataclass(frozen=True)
class Candidates:
    """The candidates that were observed at all, one entry of every column each, sorted by `key`.

    Args:
        key: an integer for each, see `keys`.
        layer, side, head, role, place: reader's layer and head, place among the sides followed, number of the role,
            place among the writers gathered.
        sums: the statistic's sum over the reader's firings, by kind of null: `prompts` leaves prompts out.
        firings, partnered: the reader's firings by role [side layer head role], all and those whose prompt has a
            partner.
        left_out: prompts without a partner; not_finite: places of those whose activations are not finite.
        size: firings by |S| [layer head d_head+1].
    """

    order: WriterOrder
    roles: tuple[str, ...]
    key: np.ndarray
    layer: np.ndarray
    side: np.ndarray
    head: np.ndarray
    role: np.ndarray
    place: np.ndarray
    sums: dict[str, np.ndarray]
    firings: np.ndarray
    partnered: np.ndarray
    left_out: int
    not_finite: tuple[int, ...]
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.key)

    def keys(
        self, side: np.ndarray, layer: np.ndarray, head: np.ndarray, role: np.ndarray, writer: np.ndarray
    ) -> np.ndarray:
        """One integer for each candidate; `side` 0 destination, 1 source, `writer` a code of `order`."""
        return _keys(side, layer, head, role, writer, self.order, len(self.roles))

    def of_reader(self, firings: np.ndarray) -> np.ndarray:
        """Of counts [side layer head role] those of each candidate's reader, over all roles."""
        return firings.sum(axis=-1)[0, self.layer, self.head]

    @property
    def shuffled(self) -> np.ndarray:
        """Of which candidates shuffled prompts say anything, see `is_shuffled`."""
        side, *_, role, writer = self.columns()
        return self.is_shuffled(side, self.layer, self.head, role, writer)

    def is_shuffled(
        self, side: np.ndarray, layer: np.ndarray, head: np.ndarray, role: np.ndarray, writer: np.ndarray
    ) -> np.ndarray:
        """Whether shuffling prompts can change a candidate: not where all prompts lack a partner, nor for what writes
        the same in every prompt at a position (attention biases, position embeddings, the constant).
        """
        varies = np.asarray([not name.startswith(SAME_EVERYWHERE) for name in self.order.labels])
        return (self.partnered[side, layer, head, role] > 0) & varies[writer]

    def columns(self) -> list[np.ndarray]:
        """Side, layer, head, role and code of the writer of every candidate."""
        left, columns = self.key, []
        for size in reversed(_sizes(self.order, len(self.roles))):
            left, column = np.divmod(left, size)
            columns.insert(0, column)
        return [left, *columns]

    def count(self, config: TraceConfig) -> int:
        """How many candidates there are, observed or not: a role that no firing of the reader has there makes none."""
        below = np.arange(self.order.n_layers)
        writers = below * self.order.n_heads + (2 * below + 3 if all_writers(config) else 0)
        count = 0
        for side in sides_of(config):
            # The constant is no candidate where every key has it.
            lacking = side == "src" and is_relative(config) and all_writers(config)
            count += ((writers - lacking) * (self.firings[SIDES.index(side)] > 0).sum(axis=(1, 2))).sum()
        return int(count)


def kinds_of(config: TraceConfig) -> tuple[str, ...]:
    """The nulls that say anything: under `all` a slice is the whole rank, and a random slice that very slice."""
    return tuple(kind for kind in KINDS if config.method != "all" or kind != "slices")


def question(
    prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig, seed: int, blocks: float | None = None
) -> Question:
    """What is asked of every layer."""
    return Question(prepared, config, seed, kinds_of(config), len(role_names(prompts, OTHER)), blocks)


def look(asked: Question, prompts: Sequence[Prompt], device_kind: str, progress: Looked | None = None) -> Candidates:
    """List the candidates whose statistic is above 0, and count all."""
    shape, roles = asked.prepared.model.config, role_names(prompts, OTHER)
    order = WriterOrder.of(shape.n_layers, shape.n_heads)
    firings = np.zeros((2, shape.n_layers, shape.n_heads, len(roles), 2), np.int64)
    size = np.zeros((shape.n_layers, shape.n_heads, shape.d_head + 1), np.int64)
    dense: dict[int, dict[str, np.ndarray]] = {}
    left_out, not_finite, observed = 0, [], np.array([OBSERVED])
    for bucket, layer in _visits(asked, prompts, roles, device_kind, progress):
        if layer == 1:
            _count(bucket, firings)
            left_out += int(((bucket.length > 0) & ~bucket.partnered).sum())
            not_finite += bucket.not_finite.tolist()
        for part in layer_parts(asked, bucket, layer, observed, partners(asked.seed, OBSERVED, bucket.length)[None]):
            n_sides, *rest, _ = part.statistic.shape
            whole = dense.setdefault(layer, {}).setdefault(part.kind, np.zeros((n_sides, shape.n_heads, *rest)))
            whole[:, part.head] += part.statistic[..., 0]
            if part.size is not None:
                size[layer, part.head] += part.size[:, 0]
    listed = _listed(asked, dense, order, len(roles))
    counted = {"firings": firings[..., 0], "partnered": firings[..., 1], "left_out": left_out, "size": size}
    return Candidates(order=order, roles=roles, not_finite=tuple(sorted(not_finite)), **listed, **counted)


def draw(
    asked: Question,
    found: Candidates,
    many: int,
    prompts: Sequence[Prompt],
    device_kind: str,
    progress: Looked | None = None,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The sums of the candidates listed under so many nulls.

    Returns:
        By kind, [null candidate]; firings by |S| in random bases, [null layer head d_head+1].
    """
    # A candidate's nulls stand together, as they come.
    sums = {kind: np.zeros((len(found), many)) for kind in asked.kinds}
    size = np.zeros((*found.size.shape, many), np.int64)
    null, drawn_for, partner = np.arange(many), None, np.zeros((many, 0), int)
    for bucket, layer in _visits(asked, prompts, found.roles, device_kind, progress):
        if bucket is not drawn_for:
            drawn_for, partner = bucket, np.stack([partners(asked.seed, int(each), bucket.length) for each in null])
        at = [np.flatnonzero((found.layer == layer) & (found.head == head)) for head in range(found.size.shape[1])]
        for part in layer_parts(asked, bucket, layer, null, partner):
            _add(sums[part.kind], part, found, at[part.head])
            if part.size is not None:
                size[layer, part.head, :, part.null[0] : part.null[-1] + 1] += part.size
    return {kind: each.T for kind, each in sums.items()}, np.moveaxis(size, -1, 0)


def _add(sums: np.ndarray, part: Part, found: Candidates, at: np.ndarray) -> None:
    its = part.statistic[found.side[at], found.role[at], found.place[at]]
    # A block has few of the roles.
    some = its.any(axis=-1)
    sums[at[some], part.null[0] : part.null[-1] + 1] += its[some][:, part.choice]


def _visits(
    asked: Question, prompts: Sequence[Prompt], roles: Sequence[str], device_kind: str, progress: Looked | None
) -> Iterator[tuple[Bucket, int]]:
    """Every bucket and, of each, every layer that reads heads; progress in prompts."""
    n_layers, done = asked.prepared.model.config.n_layers, 0
    for bucket in buckets(asked.prepared, prompts, asked.config, roles, device_kind):
        real = int((bucket.place >= 0).sum())
        for layer in range(1, n_layers):
            yield bucket, layer
            if progress is not None:
                progress(done + real * layer // (n_layers - 1), len(prompts))
        done += real


def _count(bucket: Bucket, firings: np.ndarray) -> None:
    its = bucket.firings
    for side, token in enumerate((its.dest, its.src)):
        at = (its.layer, its.head, bucket.role[its.prompt, token])
        np.add.at(firings[side, ..., 0], at, 1)
        np.add.at(firings[side, ..., 1], at, bucket.partnered[its.prompt])


def _listed(
    asked: Question, dense: dict[int, dict[str, np.ndarray]], order: WriterOrder, n_roles: int
) -> dict[str, np.ndarray | dict[str, np.ndarray]]:
    """Columns of `Candidates`, sorted by key."""
    sides = np.asarray([SIDES.index(side) for side in sides_of(asked.config)])
    parts = [[np.zeros(0, np.int64)] * 6 + [np.zeros(0)] * len(asked.kinds)]
    for layer, totals in sorted(dense.items()):
        side, head, role, place = found = np.nonzero(totals["bases"] > 0)
        its_layer = np.full(len(side), layer)
        codes = _codes(order, totals["bases"].shape[-1], all_writers(asked.config))
        key = _keys(sides[side], its_layer, head, role, codes[place], order, n_roles)
        parts.append([key, its_layer, side, head, role, place, *(totals[kind][found] for kind in asked.kinds)])
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    sort = np.argsort(joined[0])
    (*columns,) = (column[sort] for column in joined)
    names = ("key", "layer", "side", "head", "role", "place")
    return {**dict(zip(names, columns, strict=False)), "sums": dict(zip(asked.kinds, columns[6:], strict=True))}


def _codes(order: WriterOrder, gathered: int, everyone: bool) -> np.ndarray:
    """Codes of the writers gathered for a layer."""
    if not everyone:
        return order.codes_below(order.n_layers)[:gathered]
    return order.codes_below((gathered - 3) // (order.n_heads + 2))


def _keys(
    side: np.ndarray,
    layer: np.ndarray,
    head: np.ndarray,
    role: np.ndarray,
    writer: np.ndarray,
    order: WriterOrder,
    n_roles: int,
) -> np.ndarray:
    key = np.asarray(side, np.int64)
    for each, size in zip((layer, head, role, writer), _sizes(order, n_roles), strict=True):
        key = key * size + each
    return key


def _sizes(order: WriterOrder, n_roles: int) -> tuple[int, int, int, int]:
    return order.n_layers, order.n_heads, n_roles, len(order.labels)
