"""What heads do with positions alone: scores as if the residual held nothing but the position embedding. Numerics.

`x_t = W_pos[t] C / s_t` with the scale s_t of W_pos[t] itself. Position 0, whose embedding is unlike all others, is
left out as a source and a destination. A row's constant moves no attention: its mean over sources is taken out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

LOOKED_AT = 128
"""Destinations up to which patterns are made."""


class Positions(NamedTuple):
    """Of a layer's heads.

    `share` of the row-centred scores' energy by vector, cross terms aside (NaN where there is none); `spread`, the
    standard deviation of a row's scores; `previous` and `own`, the pattern at the token before and at the token itself,
    means over destinations 2 to `LOOKED_AT` − 1; `score` at destinations and sources 1 and above, NaN above the
    diagonal.
    """

    share: Float[np.ndarray, "head sv"]
    spread: Float[np.ndarray, " head"]
    previous: Float[np.ndarray, " head"]
    own: Float[np.ndarray, " head"]
    score: Float[np.ndarray, "head dest src"]


def read_positions(W_pos: Float[np.ndarray, "ctx d_model"], epsilon: float) -> Float[np.ndarray, "tok d_model_1"]:
    """`[x, 1]` of positions 1 and above."""
    centred = np.asarray(W_pos, np.float64)
    centred = centred - centred.mean(axis=-1, keepdims=True)
    x = centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + epsilon)
    return np.concatenate([x, np.ones_like(x[:, :1])], axis=-1)[1:]


def position_scores(
    x: Float[np.ndarray, "tok d_model_1"],
    A: Float[np.ndarray, "head d_model_1 sv"],
    B: Float[np.ndarray, "head d_model_1 sv"],
    scale: float,
) -> Positions:
    """What a layer's heads make of positions.

    Args:
        x: from `read_positions`.
        A, B: queries' and keys' weights in the singular gauge (METHOD.md, section 2).
        scale: attn_scale.
    """
    # Products in the weights' own precision, sums over a thousand positions in double.
    near = x.astype(A.dtype)
    q, k = (np.einsum("td,ndk->ntk", near, each, optimize=True).astype(np.float64) for each in (A, B))
    n_sources = np.arange(1, len(x) + 1)[:, None]
    variance = np.cumsum(np.square(k), axis=1) - np.square(np.cumsum(k, axis=1)) / n_sources
    energy = (np.square(q) * np.maximum(variance, 0)).sum(axis=1)
    whole = energy.sum(axis=-1, keepdims=True)
    share = np.where(whole > 0, energy / np.where(whole > 0, whole, 1), np.nan)
    few = min(len(x), LOOKED_AT - 1)
    below = np.tri(few, dtype=bool)
    score = np.where(below, scale * (q[:, :few] @ np.swapaxes(k[:, :few], -1, -2)), -np.inf)
    pattern = np.exp(score - score.max(axis=-1, keepdims=True))
    pattern /= pattern.sum(axis=-1, keepdims=True)
    shown = np.where(below, score, np.nan)
    mean = np.nansum(shown, axis=-1, keepdims=True) / np.arange(1, few + 1)[:, None]
    spread = np.sqrt(np.nanmean(np.square(shown - mean), axis=(-2, -1)))
    rest = range(1, few)
    if not rest:
        nothing = np.full(len(q), np.nan)
        return Positions(share, spread, nothing, nothing, shown)
    return Positions(share, spread, pattern[:, rest, range(few - 1)].mean(1), pattern[:, rest, rest].mean(1), shown)


def main_directions(W_pos: Float[np.ndarray, "ctx d_model"]) -> Float[np.ndarray, " direction"]:
    """The variance of position embeddings, positions 1 and above, along their principal directions, as shares."""
    rows = np.asarray(W_pos[1:], np.float64)
    rows = rows - rows.mean(axis=-1, keepdims=True)
    squares = np.square(np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False))
    return squares / (squares.sum() or 1)
