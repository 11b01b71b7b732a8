"""How far float32 may carry a product, and with it every decision that hangs on one (METHOD.md, section 4)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from svdtrace.decomposition import FLOAT32_EPS, Decomposition

# The relative error of an activation after a whole float32 forward pass, as METHOD.md fixes it.
ACTIVATION_ERROR = 5e-5


@struct.dataclass
class RoundingScale:
    """What the bounds need of every head.

    `root` = √σ_0, [layer head]; `relative` = 5e-5 + eps σ_0 / gap_k, [layer head sv]: its last term at most 1, 0 where
    a head has one vector; all of it 0 beyond the rank. gap_k is the distance to the nearest other singular value.
    """

    root: Float[Array, "*layer head"]
    relative: Float[Array, "*layer head sv"]


def rounding_scale(decomposition: Decomposition) -> RoundingScale:
    """The scale of every head's rounding errors; shrinks with the dtype's eps where it is finer than float32."""
    S = decomposition.S
    fineness = float(jnp.finfo(S.dtype).eps) / FLOAT32_EPS
    down = S[..., :-1] - S[..., 1:]
    edge = jnp.full((*S.shape[:-1], 1), jnp.inf, S.dtype)
    gap = jnp.minimum(jnp.concatenate([edge, down], -1), jnp.concatenate([down, edge], -1))
    mixing = jnp.minimum(1.0, FLOAT32_EPS * fineness * S[..., :1] / jnp.where(gap > 0, gap, jnp.finfo(S.dtype).tiny))
    relative = jnp.where(decomposition.within_rank(), ACTIVATION_ERROR * fineness + mixing, 0)
    return RoundingScale(root=jnp.sqrt(S[..., 0]), relative=relative)


def product_bounds(
    q: Float[Array, "*firing sv"],
    k: Float[Array, "*firing sv"],
    root: Float[Array, "*firing"],
    relative: Float[Array, "*firing sv"],
) -> Float[Array, "*firing sv"]:
    """Bound of p_k: `(|q̂| + √σ_0)(|k̂| + √σ_0) (5e-5 + eps σ_0 / gap_k)`, q̂ and k̂ the whole vectors."""
    size = (jnp.linalg.norm(q, axis=-1) + root) * (jnp.linalg.norm(k, axis=-1) + root)
    return size[..., None] * relative
