"""Prompts in length buckets and batches: few shapes to compile, little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from svdtrace.prompts.prompt import Prompt

MOST_BUCKETS = 6
# What another bucket must save to be worth compiling its programs, in tokens not padded.
BUCKET_COST = 4096
NONE = -1


@dataclass(frozen=True)
class Plan:
    """Shapes to compile: prompts are padded to one of the lengths `edges`, and stand in batches of `sizes` prompts."""

    edges: tuple[int, ...]
    sizes: tuple[int, ...]

    def over(self, devices: int) -> Plan:
        """The same, with batches that can be spread evenly over so many devices."""
        return Plan(self.edges, tuple(_multiple(size, devices) for size in self.sizes))


@dataclass(frozen=True)
class Batch:
    """Prompts of one bucket, right-padded to its length and to a full batch.

    `tokens` [prompt tok]; `length` and `last` (the last traced token) [prompt]; `answer`, `distractor` token ids or -1;
    `place` each prompt's 0-based place in the input, -1 for a row that only fills the batch; `prompts` the real ones.
    """

    tokens: np.ndarray
    length: np.ndarray
    last: np.ndarray
    answer: np.ndarray
    distractor: np.ndarray
    place: np.ndarray
    prompts: tuple[Prompt, ...]

    def asked(self, difference: np.ndarray | float) -> np.ndarray:
        """Logit differences of all rows, NaN where a prompt lacks answer or distractor."""
        return np.where((self.answer >= 0) & (self.distractor >= 0), difference, np.nan)


def bucket_edges(lengths: Sequence[int]) -> tuple[int, ...]:
    """The lengths to pad to: at most `MOST_BUCKETS`, chosen so that padding and compilation together cost least.

    Exact, by dynamic programming over the distinct lengths.
    """
    distinct, counts = np.unique(np.asarray(lengths), return_counts=True)
    n = len(distinct)
    many = np.concatenate([[0], np.cumsum(counts)])
    tokens = np.concatenate([[0], np.cumsum(counts * distinct)])
    # cost[i, j]: one bucket for lengths i … j-1, all padded to the largest of them.
    cost = np.full((n + 1, n + 1), np.inf)
    for j in range(1, n + 1):
        start = np.arange(j)
        cost[start, j] = (many[j] - many[start]) * distinct[j - 1] - (tokens[j] - tokens[start]) + BUCKET_COST
    best, origins = [cost[0]], [np.zeros(n + 1, int)]
    for _ in range(min(MOST_BUCKETS, n) - 1):
        through = best[-1][:, None] + cost
        origins.append(np.argmin(through, axis=0))
        best.append(np.min(through, axis=0))
    edges, j = [], n
    for buckets in range(int(np.argmin([each[n] for each in best])), -1, -1):
        edges.append(int(distinct[j - 1]))
        j = int(origins[buckets][j])
    return tuple(reversed(edges))


def automatic_batch_size(n_tokens: int, n_heads: int, device_kind: str) -> int:
    """Prompts a batch for `batch_size = auto`: depends on shapes and device kind alone.

    Enough tokens to keep matrix products busy, few enough that one layer's pattern stays small.
    """
    tokens, pattern_values = (2048, 2**25) if device_kind == "cpu" else (2**15, 2**28)
    return max(1, min(tokens // n_tokens, pattern_values // (n_heads * n_tokens**2)))


def block_size(platform: str) -> int:
    """How many firings of a head `svdtrace.tracing.attribute` works on at a time.

    A core's cache holds what few need; an accelerator wants work for all of its units.
    """
    return 16 if platform == "cpu" else 128


def plan_for(lengths: Sequence[int], batch_size: int | str, n_heads: int, device_kind: str, devices: int = 1) -> Plan:
    """The plan for prompts that are all at hand.

    Args:
        lengths: of the prompts, in tokens.
        batch_size: prompts a batch; `"auto"` chooses by `automatic_batch_size`, for each device.
        devices: over how many a batch is spread.
    """
    return _fitted(bucket_edges(lengths), lengths, batch_size, n_heads, device_kind, devices)


def streaming_plan(
    lengths: Sequence[int], longest: int, batch_size: int | str, n_heads: int, device_kind: str, devices: int = 1
) -> Plan:
    """The plan for prompts that are still to come, from those that came first: full batches, and any length up to
    `longest`, what is longer than those seen in buckets that grow by a half.
    """
    edges = list(bucket_edges(lengths)) if len(lengths) else [min(longest, 16)]
    while edges[-1] < longest:
        edges.append(min(longest, -(-edges[-1] * 3 // 2)))
    return Plan(tuple(edges), tuple(_size(edge, batch_size, n_heads, device_kind, devices) for edge in edges))


def _size(n_tokens: int, batch_size: int | str, n_heads: int, device_kind: str, devices: int) -> int:
    if batch_size == "auto":
        return devices * automatic_batch_size(n_tokens, n_heads, device_kind)
    return _multiple(int(batch_size), devices)


def _multiple(least: int, of: int) -> int:
    return -(-least // of) * of


def _fitted(
    edges: Sequence[int],
    lengths: Sequence[int],
    batch_size: int | str,
    n_heads: int,
    device_kind: str,
    devices: int = 1,
) -> Plan:
    counts = np.bincount(np.searchsorted(edges, lengths), minlength=len(edges))
    most = [_size(edge, batch_size, n_heads, device_kind, devices) for edge in edges]
    sizes = [_multiple(_evenly(int(count), size), devices) for count, size in zip(counts, most, strict=True)]
    return Plan(tuple(edges), tuple(sizes))


def _evenly(count: int, most: int) -> int:
    """Prompts a batch, at most `most`: few need no full batch, many are shared out so that the last one is full too."""
    if count <= most:
        # A power of two keeps the number of shapes small.
        return min(most, 1 << max(0, count - 1).bit_length())
    return -(-count // -(-count // most))


def batches(
    prompts: Sequence[Prompt], edges: Sequence[int], batch_size: int | str, n_heads: int, device_kind: str
) -> Iterator[Batch]:
    """Prompts, bucket by bucket, in batches of one shape per bucket.

    Args:
        batch_size: prompts a batch; `"auto"` chooses by `automatic_batch_size`.
    """
    lengths = [len(prompt.tokens) for prompt in prompts]
    return planned_batches(prompts, _fitted(edges, lengths, batch_size, n_heads, device_kind))


def planned_batches(prompts: Sequence[Prompt], plan: Plan) -> Iterator[Batch]:
    """Prompts, bucket by bucket, in batches of the plan's shapes."""
    bucket_of = np.searchsorted(np.asarray(plan.edges), [len(prompt.tokens) for prompt in prompts])
    for bucket, (n_tokens, size) in enumerate(zip(plan.edges, plan.sizes, strict=True)):
        places = np.nonzero(bucket_of == bucket)[0]
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            yield _padded([prompts[place] for place in chosen], chosen, n_tokens, size)


def _padded(prompts: Sequence[Prompt], places: np.ndarray, n_tokens: int, size: int) -> Batch:
    fill = size - len(prompts)
    tokens = np.zeros((size, n_tokens), np.int32)
    for row, prompt in zip(tokens, prompts, strict=False):
        row[: len(prompt.tokens)] = prompt.tokens
        # Of the prompt's own: values of another token that are not finite would reach it, 0 × inf being no number.
        row[len(prompt.tokens) :] = prompt.tokens[-1]

    def column(values: list[int], filler: int) -> np.ndarray:
        return np.asarray(values + [filler] * fill, np.int32)

    return Batch(
        tokens=tokens,
        # A filling row has length 0 and last -1: nothing fires in it.
        length=column([len(prompt.tokens) for prompt in prompts], 0),
        last=column([prompt.last for prompt in prompts], -1),
        answer=column([NONE if prompt.answer is None else prompt.answer for prompt in prompts], NONE),
        distractor=column([NONE if prompt.distractor is None else prompt.distractor for prompt in prompts], NONE),
        place=column([int(place) for place in places], NONE),
        prompts=tuple(prompts),
    )
