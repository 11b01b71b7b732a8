"""How far float32 may carry a product or a contribution, and with it every decision that hangs on one (METHOD.md,
sections 3 and 4).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.decomposition import FLOAT32_EPS, Decomposition

# The relative error of an activation after a whole float32 forward pass, as METHOD.md fixes it.
ACTIVATION_ERROR = 5e-5
TURNING = 4.0
"""Singular vectors are turned by up to so many eps σ_0 / gap."""
READING = 16.0
"""What a vector reads of a writer is off by up to so many eps of their norms, though it may cancel to nothing."""


@struct.dataclass
class RoundingScale:
    """What the bounds need of every head, [layer head sv]; all of it 0 beyond the rank.

    `root` = √σ_k; `nearness` = eps σ_0 / gap_k, gap_k the distance to the nearest other singular value: 0 where a head
    has one vector, inf where two values are equal.
    """

    root: Float[Array, "*layer head sv"]
    nearness: Float[Array, "*layer head sv"]

    @property
    def turn(self) -> Float[Array, "*layer head sv"]:
        """θ_k = min(1, 4 eps σ_0 / gap_k), by how much rounding may turn u_k and v_k.

        Nearer than that they may take any place in their span.
        """
        return jnp.minimum(1, TURNING * self.nearness)

    @property
    def within(self) -> Bool[Array, "*layer head sv"]:
        """Which vectors are within the rank."""
        return self.root > 0


@struct.dataclass
class Read:
    """What a side of firings reads with: β of METHOD.md, section 4, and the norms beside it.

    `coefficient` β_k, 0 outside S; `root`, `turn`: see `RoundingScale`; `other_read` = ‖x̃‖ of the other side and
    `other_size` = ‖β‖ over every k within the rank, both 0 where the coefficients are signs, which do not round.
    """

    coefficient: Float[Array, "*block slot sv"]
    root: Float[Array, "*block sv"]
    turn: Float[Array, "*block sv"]
    other_read: Float[Array, "*block slot"]
    other_size: Float[Array, "*block slot"]


def fineness(dtype: np.dtype) -> float:
    """How much less than float32 a dtype rounds, as the ratio of their eps; 1 for float32."""
    return float(jnp.finfo(dtype).eps) / FLOAT32_EPS


def rounding_scale(decomposition: Decomposition) -> RoundingScale:
    """The scale of every head's rounding errors; shrinks with the dtype's eps where it is finer than float32."""
    S, within = decomposition.S, decomposition.within_rank()
    down = S[..., :-1] - S[..., 1:]
    edge = jnp.full((*S.shape[:-1], 1), jnp.inf, S.dtype)
    gap = jnp.minimum(jnp.concatenate([edge, down], -1), jnp.concatenate([down, edge], -1))
    nearness = jnp.where(gap > 0, FLOAT32_EPS * fineness(S.dtype) * S[..., :1] / jnp.where(gap > 0, gap, 1), jnp.inf)
    return RoundingScale(root=jnp.sqrt(jnp.where(within, S, 0)), nearness=jnp.where(within, nearness, 0))


def product_bounds(
    q: Float[Array, "*firing sv"],
    k: Float[Array, "*firing sv"],
    root: Float[Array, "*firing sv"],
    turn: Float[Array, "*firing sv"],
) -> Float[Array, "*firing sv"]:
    """Bound of p_k: `(|q̂| + √σ_0)(|k̂| + √σ_0) (5e-5 + θ_k)`, q̂ and k̂ the whole vectors; 0 beyond the rank.

    Args:
        root, turn: see `RoundingScale`.
    """
    size = (jnp.linalg.norm(q, axis=-1) + root[..., 0]) * (jnp.linalg.norm(k, axis=-1) + root[..., 0])
    relative = ACTIVATION_ERROR * fineness(q.dtype) + turn
    return jnp.where(root > 0, size[..., None] * relative, 0)


@struct.dataclass
class Amounts:
    """What the bound of a writer's c_w is made of: `Σ_k of_terms_k |α_k| + of_norm ‖α‖ + of_size ‖x_w‖`, that is

    `Σ_{k∈S} [5e-5 |α_k β_k| + θ_k (‖α‖ |β_k| + |α_k| ‖β‖) + 16 eps √σ_k (‖x_w‖ |β_k| + ‖x̃‖ |α_k|)]`,

    so that sums over k that no writer changes are taken once a firing. A firing's bound is its writers' largest.
    """

    of_terms: Float[Array, "*block slot sv"]
    of_norm: Float[Array, "*block slot"]
    of_size: Float[Array, "*block slot"]


def amounts_of(read: Read) -> Amounts:
    """The amounts of firings."""
    finer = fineness(read.coefficient.dtype)
    beta, inside = jnp.abs(read.coefficient), (read.coefficient != 0).astype(read.coefficient.dtype)
    turn = inside * read.turn[..., None, :]
    reading = READING * FLOAT32_EPS * finer * inside * read.root[..., None, :]
    of_terms = (
        ACTIVATION_ERROR * finer * beta + turn * read.other_size[..., None] + reading * read.other_read[..., None]
    )
    return Amounts(of_terms, of_norm=jnp.sum(turn * beta, axis=-1), of_size=jnp.sum(reading * beta, axis=-1))


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
