"""How far float32 may carry a product, and with it every decision that hangs on one (METHOD.md, section 4)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from svdtrace.method.decomposition import FLOAT32_EPS, Decomposition

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


def fineness(dtype: np.dtype) -> float:
    """How much less than float32 a dtype rounds, as the ratio of their eps; 1 for float32."""
    return float(jnp.finfo(dtype).eps) / FLOAT32_EPS


def rounding_scale(decomposition: Decomposition) -> RoundingScale:
    """The scale of every head's rounding errors; shrinks with the dtype's eps where it is finer than float32."""
    S = decomposition.S
    finer = fineness(S.dtype)
    down = S[..., :-1] - S[..., 1:]
    edge = jnp.full((*S.shape[:-1], 1), jnp.inf, S.dtype)
    gap = jnp.minimum(jnp.concatenate([edge, down], -1), jnp.concatenate([down, edge], -1))
    mixing = jnp.minimum(1.0, FLOAT32_EPS * finer * S[..., :1] / jnp.where(gap > 0, gap, jnp.finfo(S.dtype).tiny))
    relative = jnp.where(decomposition.within_rank(), ACTIVATION_ERROR * finer + mixing, 0)
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


def score_bounds(
    q: Float[np.ndarray, "*pair"],
    k: Float[np.ndarray, "*pair"],
    root: Float[np.ndarray, "*pair"],
    attn_scale: Float[np.ndarray, "*pair"],
) -> Float[np.ndarray, "*pair"]:
    """Bound of a score `Σ_k p_k · attn_scale`: `(|q̂| + √σ_0)(|k̂| + √σ_0) · 5e-5 · attn_scale`.

    The activations' part of the products' bound alone, since a score does not depend on the gauge. The sum's bound is
    one product's: both are what an error of 5e-5 in q̂ and k̂ makes of their inner product (Cauchy–Schwarz).

    Args:
        q, k: the norms |q̂| and |k̂|.
        root: √σ_0 of the head.
        attn_scale: of the layer.
    """
    return (q + root) * (k + root) * attn_scale * (ACTIVATION_ERROR * fineness(q.dtype))


def pattern_bounds(
    pattern: Float[np.ndarray, "*pair"],
    score_bound: Float[np.ndarray, "*pair"],
    n_tokens: Int[np.ndarray, "*pair"] | int,
) -> Float[np.ndarray, "*pair"]:
    """Bound of a pattern a whose row's scores are off by at most e: `a (2 (1 − a) e + T eps)`, to first order in e.

    `da = a (ds_j − Σ_m a_m ds_m) = a ((1 − a) ds_j − Σ_{m≠j} a_m ds_m)`, and the other patterns sum to 1 − a. The last
    term is the rounding of softmax's own sum of T terms.

    Args:
        score_bound: e, the largest of the row.
        n_tokens: T, what the destination may attend to.
    """
    return pattern * (2 * (1 - pattern) * score_bound + n_tokens * float(np.finfo(pattern.dtype).eps))
