"""What each head did, counted over the firings of a trace."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Int

from svdtrace.report.connections import vector_counts


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


def heads(firings: pa.Table, n_vectors: int) -> Heads:
    """Count firings by head.

    Args:
        firings: `firings.parquet`.
        n_vectors: singular vectors of a head, `d_head`.
    """
    prompt, layer, head, size = (firings[name].to_numpy().astype(int) for name in ("prompt", "layer", "head", "size"))
    n_heads = int(head.max(initial=0)) + 1
    names, group = np.unique(layer * n_heads + head, return_inverse=True)
    n_groups, n_prompts = len(names), int(prompt.max(initial=0)) + 1
    fired = np.bincount(group, minlength=n_groups)
    pattern = firings["pattern"].to_numpy().astype(float)
    sizes = np.bincount(group * (n_vectors + 1) + size, minlength=n_groups * (n_vectors + 1))
    return Heads(
        layer=names // n_heads,
        head=names % n_heads,
        firings=fired,
        prompts=np.bincount(np.unique(group * n_prompts + prompt) // n_prompts, minlength=n_groups),
        pattern=np.bincount(group, pattern, n_groups) / np.maximum(fired, 1),
        sizes=sizes.reshape(n_groups, n_vectors + 1),
        vectors=vector_counts(firings, np.arange(firings.num_rows), group, n_groups, n_vectors),
    )


def largest_index(firings: pa.Table, d_head: int) -> int:
    """Singular vectors to count: `d_head`, or as many as the slices name where that is unknown.

    Args:
        firings: `firings.parquet`.
        d_head: from the manifest, or 0.
    """
    column = firings["slice"].combine_chunks().flatten()
    named = int(column.to_numpy().max(initial=-1)) + 1
    return max(d_head, named, int(firings["size"].to_numpy().max(initial=0)))
