"""What each head did, counted over the firings of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from svdtrace.report.vectors import vector_counts
from svdtrace.results.grouping import Groups, distinct_prompts, grown, integers
from svdtrace.results.in_parts import Tables, columns


@dataclass(frozen=True)
class Heads:
    """Heads that fired, by layer and head.

    Args:
        layer, head: which.
        firings, prompts: how often, and in how many prompts.
        pattern: mean attention of its firings.
        sizes: how many of its firings have a slice of 0, 1, 2, … vectors.
        vectors: how many of its firings have each singular vector in their slice.
    """

    layer: Int[np.ndarray, " head"]
    head: Int[np.ndarray, " head"]
    firings: Int[np.ndarray, " head"]
    prompts: Int[np.ndarray, " head"]
    pattern: Float[np.ndarray, " head"]
    sizes: Int[np.ndarray, "head size"]
    vectors: Int[np.ndarray, "head sv"]


class HeadCount:
    """Counts firings by head, part by part.

    Args:
        d_head: singular vectors of a head, 0 where that is unknown: then as many as the slices name.
    """

    def __init__(self, d_head: int) -> None:
        self._groups, self.n_vectors = Groups(), d_head
        self._firings, self._prompts, self._pattern = np.zeros(0, int), np.zeros(0, int), np.zeros(0)
        self._sizes, self._vectors = np.zeros((0, d_head + 1), int), np.zeros((0, d_head), int)

    def add(self, part: Tables, _names: Sequence[str]) -> None:
        """See `svdtrace.pictures.connections.Count`."""
        firings = columns(part, "firings", ("prompt", "layer", "head", "size", "pattern", "slice"))
        prompt, layer, head, size = (integers(firings[name]) for name in ("prompt", "layer", "head", "size"))
        group = self._groups.of([layer, head])
        many, width = len(self._groups), max(self.n_vectors, _largest_index(firings))
        self._firings = grown(self._firings, many) + np.bincount(group, minlength=many)
        self._prompts = grown(self._prompts, many) + distinct_prompts(group, prompt, many)
        self._pattern = grown(self._pattern, many)
        np.add.at(self._pattern, group, np.asarray(firings["pattern"].to_numpy(), float))
        sizes = np.bincount(group * (width + 1) + size, minlength=many * (width + 1)).reshape(many, width + 1)
        vectors = vector_counts(firings, np.arange(firings.num_rows), group, many, width)
        self._sizes = grown(self._sizes, many, width + 1) + sizes
        self._vectors = grown(self._vectors, many, width) + vectors
        self.n_vectors = width

    def heads(self) -> Heads:
        """What was counted."""
        layer, head = self._groups.columns(2)
        order = np.lexsort((head, layer))
        return Heads(
            layer=layer[order],
            head=head[order],
            firings=self._firings[order],
            prompts=self._prompts[order],
            pattern=self._pattern[order] / np.maximum(self._firings[order], 1),
            sizes=self._sizes[order],
            vectors=self._vectors[order],
        )


def _largest_index(firings: pa.Table) -> int:
    """Singular vectors that the slices name, at least."""
    column = firings["slice"].combine_chunks().flatten()
    named = int(column.to_numpy().max(initial=-1)) + 1
    return max(named, int(firings["size"].to_numpy().max(initial=0)))
