"""What heads do on a data set: where they fire, and through which singular vectors (METHOD.md, section 9).

usage = head_usage(model, prompts)
usage.count[9, 9]                                # firings of head 9.9
usage.at("9.9@end:IO").times                     # firings of that pair whose slice has each singular vector
usage.at("9.9@end:IO").used(100)                 # the vectors in at least 100 of them
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gpt2jax.params import Model
from svdtrace.characterisation.slice_sizes import count_sizes, pairs_per_block, slices_at_taus
from svdtrace.config import TraceConfig
from svdtrace.errors import SettingError
from svdtrace.method.firings import (
    FiringList,
    candidates_kept,
    fired,
    reaching,
)
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings.bars import progressing
from svdtrace.tracing.batching import Batch, plan_for, planned_batches
from svdtrace.tracing.devices import computing_device, precision
from svdtrace.tracing.finite import not_finite, refuse_nothing_finite
from svdtrace.tracing.observe import Observed, observe
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import is_relative
from svdtrace.tracing.prepare import Prepared
from svdtrace.tracing.roots import named_roots, parse_roots
from svdtrace.tracing.trace import Progress, check_prompts, prepare_cached

TAUS = tuple(round(0.5 + 0.05 * step, 2) for step in range(11))
"""The τ at which slices are cut to see what it costs, 0.5 to 1.0."""
MOST_PAIRS = 50_000_000
FIRINGS_PER_CALL = 1024
BLOCKS_PER_CALL = 8
LEAST_WIDTH = 2


@dataclass(frozen=True)
class HeadFirings:
    """Firings of any layer, layer 0 too, one entry each, in the order of a trace's table.

    `where` says where (its `prompt` is the 0-based place among the prompts); `products` p_k (P_k under `relative`) and
    `members` of S [firing sv]; `total` their sum; `size_at`, `kept_at`: |S| and the share of the total kept, [firing
    tau], at `TAUS`.
    """

    where: FiringList
    products: np.ndarray
    members: np.ndarray
    total: np.ndarray
    size_at: np.ndarray
    kept_at: np.ndarray

    def __len__(self) -> int:
        return len(self.where)

    @property
    def size(self) -> np.ndarray:
        """|S|, [firing]."""
        return self.members.sum(axis=-1)

    @property
    def times(self) -> np.ndarray:
        """How many of the firings have each singular vector in their slice, [sv]."""
        return self.members.sum(axis=0)

    def used(self, at_least: float) -> np.ndarray:
        """The singular vectors that are in the slices of at least so many of the firings, ascending."""
        return np.flatnonzero(self.times >= max(at_least, 1))

    def take(self, rows: np.ndarray) -> HeadFirings:
        """Some firings, by index or mask."""
        rest = (getattr(self, each.name)[rows] for each in fields(self) if each.name != "where")
        return HeadFirings(self.where.take(rows), *rest)

    def of_head(self, layer: int, head: int) -> HeadFirings:
        """The firings of one head."""
        return self.take((self.where.layer == layer) & (self.where.head == head))


@dataclass(frozen=True)
class HeadUsage:
    """How the heads of a model are used on a data set.

    `firings`: every firing. `count_any_score` [layer head]: pairs with pattern ≥ threshold, of whatever score. `idle`
    [layer head size]: how often |S| occurs at pairs that do not fire, sizes 0 … h; zero where they were not counted.
    `sampled`: whether `idle` counts a seeded sample of them alone. `prompts` are those whose activations are finite,
    `places` theirs among those given; `not_finite` counts and names the others (`svdtrace.tracing.finite`).
    """

    prompts: tuple[Prompt, ...]
    firings: HeadFirings
    count_any_score: np.ndarray
    idle: np.ndarray
    sampled: bool
    model: Any
    places: np.ndarray
    not_finite: dict[str, Any]

    @property
    def count(self) -> np.ndarray:
        """Firings of every head, [layer head]."""
        return self._per_head(np.ones(len(self.firings)))[0].astype(np.int64)

    @property
    def mean_size(self) -> np.ndarray:
        """Mean |S| on firings, [layer head]; NaN for a head that never fires."""
        return self._per_head(self.firings.size)[1]

    def at(self, root: str) -> HeadFirings:
        """The firings that a root names, `LAYER.HEAD@DEST:SRC`, layer ≥ 1; several joined by commas.

        Raises:
            RootError: a root that names no head, role or position.
        """
        roots = parse_roots(root, self.model, self.prompts)
        return self.firings.take(named_roots(self.firings.where, roots, self.prompts))

    def _per_head(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sums and means of values of firings, [layer head]."""
        shape = self.model.n_layers, self.model.n_heads
        place = self.firings.where.layer * shape[1] + self.firings.where.head
        count = np.bincount(place, minlength=shape[0] * shape[1])
        sums = np.bincount(place, weights=values, minlength=shape[0] * shape[1])
        with np.errstate(invalid="ignore"):
            return sums.reshape(shape), (sums / count).reshape(shape)


def head_usage(
    model: Model,
    prompts: Iterable[Prompt],
    config: TraceConfig | None = None,
    *,
    most_pairs: int = 0,
    seed: int = 0,
    progress: Progress | bool | None = None,
) -> HeadUsage:
    """Firings and slices of every head, and the sizes of slices where heads do not fire.

    Args:
        model: raw or folded; a raw one is folded when the config says so.
        prompts: any lengths.
        config: `threshold`, `tau`, `score_min`, `skip_first` decide.
        most_pairs: of the pairs that do not fire (i ≥ j, j ≥ 1 with `skip_first`, up to the last traced token), over
            all heads, at most so many are looked at; a seeded sample where there are more, the same pairs of tokens for
            every head. 0: none.
        seed: of that sample.
        progress: called with prompts done and prompts in all. True shows a bar, in a terminal and in a notebook.

    Raises:
        SettingError, PromptError, ModelError: what was asked does not fit the model or the prompts, or the activations
            of no prompt are finite.
    """
    config = config or TraceConfig()
    prompts = check_prompts(model, prompts)
    with precision(config), progressing(progress, "firings") as told:
        prepared = prepare_cached(model, config)
        return usage_of(prepared, prompts, config, most_pairs=most_pairs, seed=seed, progress=told)


def usage_of(
    prepared: Prepared,
    prompts: Sequence[Prompt],
    config: TraceConfig,
    *,
    most_pairs: int = MOST_PAIRS,
    seed: int = 0,
    progress: Progress | None = None,
) -> HeadUsage:
    """The same as `head_usage`, of checked prompts and a model that is ready."""
    if config.method == "all":
        raise SettingError('method "all" has every vector in every slice; choose paper, exact or relative')
    shape, scales = prepared.model.config, prepared.score_scale if is_relative(config) else None
    sizes = np.zeros((shape.n_layers, shape.n_heads, shape.d_head + 1), np.int64)
    any_score = np.zeros(sizes.shape[:2], np.int64)
    drawn = _PairDraw(prompts, config, most_pairs // (shape.n_layers * shape.n_heads), seed)
    parts, done, finite = [], 0, np.ones(len(prompts), bool)
    for batch, observed in observed_batches(prepared, prompts, config):
        finite[batch.place[: len(batch.prompts)]] = np.asarray(observed.finite)[: len(batch.prompts)]
        pairs = pairs_of(prepared, observed, config)
        at = reaching(pairs, config)
        np.add.at(any_score, (pairs.layer[at], pairs.head[at]), 1)
        firing = fired(pairs, config, first_layer=0)
        parts.append(_sliced(observed, firing, batch, config, scales))
        if most_pairs:
            sizes += _idle_sizes(observed, firing, drawn.pairs(batch), config, scales)
        done += len(batch.prompts)
        if progress is not None:
            progress(done, len(prompts))
    said, places = not_finite(prompts, np.flatnonzero(~finite).tolist()), np.flatnonzero(finite).tolist()
    if said["prompts"]:
        refuse_nothing_finite(said, len(prompts))
        # Once more without them, since pairs that do not fire were drawn from all.
        rest = usage_of(prepared, [prompts[each] for each in places], config, most_pairs=most_pairs, seed=seed)
        return replace(rest, places=np.asarray(places), not_finite=said)
    return HeadUsage(tuple(prompts), _joined(parts), any_score, sizes, drawn.sampled, shape, np.asarray(places), said)


def observed_batches(
    prepared: Prepared, prompts: Sequence[Prompt], config: TraceConfig
) -> Iterator[tuple[Batch, Observed]]:
    """Batches of prompts and what the forward pass says of them."""
    shape = prepared.model.config
    lengths = [len(prompt.tokens) for prompt in prompts]
    plan = plan_for(lengths, config.batch_size, shape.n_heads, computing_device(config).platform)
    for batch in planned_batches(prompts, plan):
        yield (
            batch,
            observe(
                shape,
                prepared.model.params,
                batch.tokens,
                batch.length,
                batch.last,
                count=candidates_kept(config, batch.tokens.shape[1]),
                skip_first=config.skip_first,
                all_writers=False,
            ),
        )


def _sliced(
    observed: Observed, found: FiringList, batch: Batch, config: TraceConfig, scales: jax.Array | None
) -> HeadFirings:
    count, taus = len(found), np.asarray((config.tau, *TAUS), observed.q.dtype)
    calls = max(1, -(-count // FIRINGS_PER_CALL))
    places = np.zeros((calls * FIRINGS_PER_CALL, 5), np.int32)
    places[:count] = np.stack([found.prompt, found.layer, found.head, found.dest, found.src], axis=-1)
    chunks = [slices_at_taus(observed.q, observed.k, each, taus, scales) for each in np.split(places, calls)]
    products, total = (
        np.concatenate([np.asarray(getattr(chunk, name)) for chunk in chunks])[:count] for name in ("products", "total")
    )
    members, kept = (
        np.concatenate([np.asarray(getattr(chunk, name)) for chunk in chunks], axis=1)[:, :count]
        for name in ("members", "kept")
    )
    return HeadFirings(
        where=replace(found, prompt=batch.place[found.prompt]),
        products=products,
        members=members[0],
        total=total,
        size_at=members[1:].sum(axis=-1, dtype=np.int32).T,
        kept_at=kept[1:].T,
    )


def _joined(parts: Sequence[HeadFirings]) -> HeadFirings:
    """The batches' firings as one list, sorted by (prompt, layer, head, dest, src)."""
    where = FiringList.joined(part.where for part in parts)
    names = [each.name for each in fields(HeadFirings) if each.name != "where"]
    whole = HeadFirings(where, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return whole.take(where.order)


def _idle_sizes(
    observed: Observed, firing: FiringList, pairs: np.ndarray, config: TraceConfig, scales: jax.Array | None
) -> np.ndarray:
    n_layers, _, n_tokens, n_heads, d_head = observed.q.shape
    block = pairs_per_block(n_layers, n_heads, d_head, 1 if scales is None else n_tokens)
    step = block * BLOCKS_PER_CALL
    padded = np.full((-(-len(pairs) // step) * step, 3), -1, np.int32)
    padded[: len(pairs)] = pairs
    count = partial(count_sizes, observed.q, observed.k, jnp.asarray(_sources(firing, observed)), block=block)
    found = [count(each, np.asarray(config.tau, observed.q.dtype), scales) for each in padded.reshape(-1, step, 3)]
    empty = np.zeros((n_layers, n_heads, d_head + 1), np.int64)
    return np.sum([empty, *(np.asarray(each) for each in found)], axis=0)


def _sources(firing: FiringList, observed: Observed) -> np.ndarray:
    """At which sources each destination's firings stand, [layer prompt head dest firing], -1 for none."""
    n_layers, n_prompts, n_tokens, n_heads, _ = observed.q.shape
    shape = (n_layers, n_prompts, n_heads, n_tokens)
    row = np.ravel_multi_index((firing.layer, firing.prompt, firing.head, firing.dest), shape)
    order = np.argsort(row, kind="stable")
    _, start, count = np.unique(row[order], return_index=True, return_counts=True)
    # A power of two, and hardly ever another one, so that few programs are compiled.
    width = 1 << int(count.max(initial=LEAST_WIDTH) - 1).bit_length()
    found = np.full((np.prod(shape), width), -1, np.int32)
    found[row[order], np.arange(len(row)) - np.repeat(start, count)] = firing.src[order]
    return found.reshape(*shape, width)


class _PairDraw:
    """Pairs of tokens (i, j), i ≥ j, of every prompt: all, or a seeded sample without replacement where there are more
    than `most`.
    """

    def __init__(self, prompts: Sequence[Prompt], config: TraceConfig, most: int, seed: int) -> None:
        self.first = 1 if config.skip_first else 0
        rows = np.asarray([max(prompt.last + 1 - self.first, 0) for prompt in prompts], np.int64)
        self.start = np.concatenate([[0], np.cumsum(rows * (rows + 1) // 2)])
        self.sampled = bool(self.start[-1] > most)
        self.chosen = None
        if self.sampled:
            drawn = np.random.default_rng(seed).choice(self.start[-1], most, replace=False, shuffle=False)
            self.chosen = np.sort(drawn)

    def pairs(self, batch: Batch) -> np.ndarray:
        """(row of the batch, dest, src) of the pairs drawn, [pair 3]."""
        return np.concatenate(
            [self._of(row, int(place)) for row, place in enumerate(batch.place[: len(batch.prompts)])]
        )

    def _of(self, row: int, place: int) -> np.ndarray:
        start, stop = self.start[place], self.start[place + 1]
        if self.chosen is None:
            index = np.arange(stop - start)
        else:
            low, high = np.searchsorted(self.chosen, [start, stop])
            index = self.chosen[low:high] - start
        # Pairs stand in a triangle: its row r holds r + 1 sources.
        dest = np.floor((np.sqrt(8.0 * index + 1) - 1) / 2).astype(np.int64)
        src = index - dest * (dest + 1) // 2
        return np.stack([np.full(len(index), row), dest + self.first, src + self.first], axis=-1).astype(np.int32)
