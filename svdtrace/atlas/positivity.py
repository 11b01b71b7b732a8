"""What a head's two matrices do to a direction of the residual, by their eigenvalues. Numerics.

`Σ Re λ / Σ |λ|` over the eigenvalues of a matrix of the residual (Elhage et al. 2021, "copying matrices"): 1 gives
directions back as they are (OV) or attends to what is alike (QK), −1 to their opposite. The nonzero eigenvalues of
`A B` are those of `B A`, which is `d_head × d_head`.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from gpt2jax.numerics import einsum
from gpt2jax.params import Blocks


def positivity(core: Float[np.ndarray, "head d_head d_head"]) -> Float[np.ndarray, " head"]:
    """Of matrices whose nonzero eigenvalues are those of `core`; NaN where all of them are 0."""
    eigenvalues = np.linalg.eigvals(np.asarray(core, np.float64))
    size = np.abs(eigenvalues).sum(axis=-1)
    return np.where(size > 0, eigenvalues.real.sum(axis=-1) / np.where(size > 0, size, 1), np.nan)


def positivities(blocks: Blocks, layer: int) -> tuple[Float[np.ndarray, " head"], Float[np.ndarray, " head"]]:
    """Of `W_Q W_Kᵀ` and of `W_V W_O` of a layer's heads, weights without bias rows."""
    query_key = einsum("ndh,ndk->nhk", blocks.W_K[layer], blocks.W_Q[layer])
    output_value = einsum("nhd,ndk->nhk", blocks.W_O[layer], blocks.W_V[layer])
    return positivity(np.asarray(query_key)), positivity(np.asarray(output_value))
