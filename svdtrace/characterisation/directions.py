"""The signals that heads send: what a slice's span keeps of what a head wrote (METHOD.md, section 5). Numerics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum


def projected(
    y: Float[Array, "edge occurrence d_model"],
    vectors: Float[Array, "edge d_model_1 sv"],
    members: Bool[Array, "edge occurrence sv"],
) -> Float[Array, "edge occurrence d_model"]:
    """`y P`, P the orthogonal projector onto the span of the first d rows of the members' vectors.

    The columns A of those rows have the Gram matrix `I − b bᵀ`, b their last rows, since whole vectors are orthonormal;
    so `P = A (I + b bᵀ / (1 − |b|²)) Aᵀ`. Where |b| = 1, A is dependent along b, which is dropped: `A (I − b bᵀ) Aᵀ`.

    Args:
        y: what the writer wrote, at every occurrence of an edge.
        vectors: U or V of the edge's reader.
        members: S.
    """
    inside, last = vectors[:, :-1], vectors[:, -1]
    along = jnp.where(members, einsum("wfd,wdk->wfk", y, inside), 0)
    b = jnp.where(members, last[:, None], 0)
    rest = 1 - jnp.sum(b * b, axis=-1, keepdims=True)
    dependent = rest <= jnp.finfo(y.dtype).eps * vectors.shape[-2]
    factor = jnp.where(dependent, -1.0, 1 / jnp.where(dependent, 1, rest))
    along = along + b * factor * jnp.sum(along * b, axis=-1, keepdims=True)
    return einsum("wfk,wdk->wfd", along, inside)


@jax.jit
def signals_of(
    z: Float[Array, "layer prompt tok head d_head"],
    places: Int[Array, "edge occurrence 2"],
    writer: Int[Array, "edge 2"],
    W_O: Float[Array, "layer head d_head d_model"],
    vectors: Float[Array, "edge d_model_1 sv"],
    members: Bool[Array, "edge occurrence sv"],
) -> tuple[Float[Array, "edge occurrence d_model"], Float[Array, "edge occurrence"]]:
    """Signals of edges from heads, and the norms of what their writers wrote.

    Args:
        z: of the forward pass.
        places: (prompt, token) at which the writer wrote.
        writer: its (layer, head).
        W_O: of all heads; vectors, members: see `projected`.
    """
    layer, head = writer.T
    sent = z[layer[:, None], places[..., 0], places[..., 1], head[:, None]]
    y = einsum("wfh,whd->wfd", sent, W_O[layer, head].astype(z.dtype))
    return projected(y, vectors, members), jnp.linalg.norm(y, axis=-1)
