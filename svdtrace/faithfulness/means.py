"""What writers, queries and keys are on average: what an ablated signal is set to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum
from gpt2jax.params import Params
from svdtrace.tracing.observe import Observed


@struct.dataclass
class Means:
    """Means over the real tokens of all prompts up to the last traced one, in the clean run.

    `gauge` q̂ (side 0) and k̂ (side 1) of the layers ≥ 1; `read` of each of these layers y_w / s of every writer below
    it, in the order of METHOD.md, section 5, without const; `z` of every head.
    """

    gauge: Float[Array, "reader_layer side head sv"]
    read: tuple[Float[Array, "_ d_model"], ...]
    z: Float[Array, "layer head d_head"]


def traced_tokens(
    length: Int[Array, " prompt"], last: Int[Array, " prompt"], n_tokens: int
) -> Bool[Array, "prompt tok"]:
    """Which tokens are in the prompt and not after its last traced one."""
    token = jnp.arange(n_tokens)[None]
    return (token <= last[:, None]) & (token < length[:, None])


@jax.jit
def token_sums(
    params: Params, observed: Observed, length: Int[Array, " prompt"], last: Int[Array, " prompt"]
) -> tuple[Means, Float[Array, ""]]:
    """Sums over a batch's traced tokens in place of means, and how many tokens they are.

    Args:
        observed: a clean run that kept all writers.
    """
    kept = traced_tokens(length, last, observed.z.shape[2])
    mask = kept.astype(observed.z.dtype)

    def traced(values: Array) -> Array:
        """Nothing at the other tokens, whatever is there: what is not finite stays so when it counts 0 times."""
        return jnp.where(kept.reshape(*[1] * (values.ndim - 4), *kept.shape, 1, 1), values, 0)

    q, k, z = (traced(each) for each in (observed.q, observed.k, observed.z))
    gauge = einsum("bt,zlbtnk->lznk", mask, jnp.stack([q[1:], k[1:]]))
    rest = [traced(each[..., None, :])[..., 0, :] for each in (observed.mlp_out, observed.embed, observed.pos)]
    read = tuple(
        _read_sums(params, (z, *rest), mask / jnp.where(kept, observed.scale[layer], 1), layer)
        for layer in range(1, len(z))
    )
    return Means(gauge, read, einsum("bt,lbtnh->lnh", mask, z)), jnp.sum(mask)


def mean_over(batches: list[tuple[Means, Float[Array, ""]]]) -> Means:
    """The means from the sums of all batches."""
    sums = [each for each, _ in batches]
    count = sum(number for _, number in batches)
    return jax.tree.map(lambda *parts: sum(parts) / count, *sums)


def _read_sums(
    params: Params, written: tuple[Array, ...], share: Float[Array, "prompt tok"], layer: int
) -> Float[Array, "writer d_model"]:
    """Σ y_w / s over the traced tokens, for every writer below a layer.

    Args:
        written: z, what MLPs write, embed and pos; share: 1 / s, 0 at other tokens.
    """
    z, mlp_out, embed, pos = written
    W_O, b_O = params.blocks.W_O[:layer].astype(share.dtype), params.blocks.b_O[:layer].astype(share.dtype)
    heads = einsum("mah,mahd->mad", einsum("bt,mbtah->mah", share, z[:layer]), W_O)
    return jnp.concatenate(
        [
            heads.reshape(-1, heads.shape[-1]),
            b_O * jnp.sum(share),
            einsum("bt,mbtd->md", share, mlp_out[:layer]),
            einsum("bt,btd->d", share, embed)[None],
            einsum("bt,btd->d", share, pos)[None],
        ]
    )
