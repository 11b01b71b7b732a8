"""Numbers of firings and slices: how often heads fire, through how many vectors, and through which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from svdtrace.reproduction.asked import COMMON, OTHERS, Asked
from svdtrace.reproduction.comparison import Key, Measured
from svdtrace.reproduction.nearness import Nearness
from svdtrace.tracing.trace import Trace

Ends = tuple[int, int]


@dataclass(frozen=True)
class Firings:
    """The firings of a trace of all, with what lies near a threshold."""

    trace: Trace
    near: Nearness

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Of the table of firings."""
        names = ("prompt", "layer", "head", "dest", "src", "size", "near_tie")
        return {name: self.trace.firings[name].to_numpy(zero_copy_only=False) for name in names}

    @cached_property
    def roles(self) -> dict[int, dict[str, int]]:
        """Positions of roles, of every prompt."""
        prompts, roles = (self.trace.prompts[name].to_pylist() for name in ("prompt", "roles"))
        return {prompt: dict(each) for prompt, each in zip(prompts, roles, strict=True)}

    def ends(self, pair: str) -> tuple[tuple[int, int], dict[int, Ends]]:
        """The head of `9.9@end:IO` and, for every prompt that has both roles, where they stand."""
        head, _, roles = pair.partition("@")
        dest, _, src = roles.partition(":")
        layer, number = map(int, head.split("."))
        found = {prompt: (each[dest], each[src]) for prompt, each in self.roles.items() if {dest, src} <= each.keys()}
        return (layer, number), found

    def rows(self, pair: str) -> np.ndarray:
        """Rows of the table that a pair names."""
        (layer, head), ends = self.ends(pair)
        of_head = np.nonzero((self.columns["layer"] == layer) & (self.columns["head"] == head))[0]
        places = zip(*(self.columns[name][of_head].tolist() for name in ("prompt", "dest", "src")), strict=True)
        return of_head[[ends.get(prompt) == (dest, src) for prompt, dest, src in places]].astype(int)

    def doubtful_prompts(self, pair: str) -> set[int]:
        """Prompts in which it depends on rounding whether a pair fires."""
        head, ends = self.ends(pair)
        return {place[0] for place in self.near.places if place[1:3] == head and ends.get(place[0]) == place[3:]}

    def tied_prompts(self, pair: str) -> set[int]:
        """Prompts in which a pair's slice is near a tie."""
        rows = self.rows(pair)
        return set(self.columns["prompt"][rows[self.columns["near_tie"][rows]]].tolist())

    def vector_counts(self, rows: Sequence[int]) -> np.ndarray:
        """In how many of these firings' slices each vector is."""
        members = self.trace.firings["slice"].take(pa.array(rows, pa.int64())).combine_chunks().flatten().to_numpy()
        return np.bincount(members, minlength=self.trace.manifest["model"]["d_head"])


def firing_numbers(firings: Firings, asked: Asked) -> dict[Key, Measured]:
    """How often each head fires, and on how many prompts each pair that is asked for does."""
    near: dict[tuple[int, int], int] = {}
    for _, layer, head, *_ in firings.near.places:
        near[layer, head] = near.get((layer, head), 0) + 1
    per_head = firings.trace.manifest["counts"]["firings_per_head"]
    shape = firings.near.firings_by_threshold.shape
    heads = [(layer, head) for layer in range(1, shape[0]) for head in range(shape[1])]
    found: dict[Key, Measured] = {}
    for layer, head in sorted(heads, key=lambda each: -per_head.get(f"{each[0]}.{each[1]}", 0)):
        name = f"{layer}.{head}"
        found["firings", name] = Measured(per_head.get(name, 0), near.get((layer, head), 0))
    for name in asked.by_threshold:
        layer, head = map(int, name.split("."))
        count = int(firings.near.firings_by_threshold[layer, head])
        found["firings by the threshold alone", name] = Measured(count, int(firings.near.close[layer, head]))
    for pair in asked.pairs:
        prompts = np.unique(firings.columns["prompt"][firings.rows(pair)])
        found["prompts firing", pair] = Measured(len(prompts), len(firings.doubtful_prompts(pair)))
    return found


def slice_numbers(firings: Firings, asked: Asked) -> dict[Key, Measured]:
    """Of the firings whose vectors are asked for: how many, their vectors in all and on average, the most used ones."""
    pair = asked.vectors
    if pair is None:
        return {}
    rows = firings.rows(pair)
    size = firings.columns["size"][rows]
    doubtful = len(firings.doubtful_prompts(pair))
    # A firing near a tie may hold a vector more or less, one near the threshold may come or go with all of its own.
    tied = int(np.count_nonzero(firings.columns["near_tie"][rows]))
    loose = tied + doubtful * int(size.max(initial=0))
    counts = firings.vector_counts(rows.tolist())
    used = np.nonzero(counts >= asked.at_least)[0].tolist()
    open_ones = int(np.count_nonzero(np.abs(counts - asked.at_least + 0.5) <= tied + doubtful))
    known = set(asked.expected_vectors)
    listed = f"in {asked.at_least} slices or more: {' '.join(map(str, used))}"
    found = {
        ("slices", f"{pair} firings"): Measured(len(rows), doubtful),
        ("slices", f"{pair} members"): Measured(int(size.sum()), loose),
        ("slices", f"{pair} mean |S|"): Measured(float(size.mean()) if len(size) else 0.0, loose / max(1, len(rows))),
    }
    if known:
        found["vectors", f"{pair} {COMMON}"] = Measured(len(known & set(used)), open_ones, listed)
        found["vectors", f"{pair} {OTHERS}"] = Measured(len(set(used) - known), open_ones)
    else:
        found["vectors", f"{pair} most used"] = Measured(len(used), open_ones, listed)
    return found
