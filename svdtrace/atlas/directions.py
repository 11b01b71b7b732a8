"""The directions of the residual that heads share: what the mean head reads and writes with. Numerics.

`Σ_heads W^r W^rᵀ / ‖W^r‖²`, divided by the heads there are, is a d_model × d_model matrix of trace 1, one for queries,
keys, values and what is written; its eigenvectors are the directions most used, its eigenvalues their shares.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gpt2jax.numerics import einsum
from svdtrace.atlas.factors import Heads

USES = ("q", "k", "v", "written")


@jax.jit
def used(heads: Heads) -> Float[Array, "use d_model d_model_2"]:
    """The sum over a layer's heads, those that are zero left out."""
    read, written = (jnp.where(jnp.isnan(each), 0, each) for each in (heads.read, heads.written))
    reading = einsum("sndh,sneh->sde", read, read)
    return jnp.concatenate([reading, einsum("nhd,nhe->de", written, written)[None]])


def main_directions(
    sums: Float[np.ndarray, "use d_model d_model_2"], most: int
) -> tuple[Float[np.ndarray, "use direction"], Float[np.ndarray, "use direction d_model"]]:
    """Shares and unit vectors of the directions most used, the largest first."""
    values, vectors = np.linalg.eigh(np.asarray(sums, np.float64))
    trace = values.sum(axis=-1, keepdims=True)
    largest = np.maximum(values[:, ::-1][:, :most], 0)
    shares = np.divide(largest, trace, out=np.zeros_like(largest), where=trace > 0)
    return shares, np.swapaxes(vectors[..., ::-1][..., :most], -1, -2)
