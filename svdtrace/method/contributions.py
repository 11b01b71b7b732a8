"""Who wrote what a head reads: contributions of writers to a firing (METHOD.md, section 5).

The three methods run the same code on other numbers: a contribution is always

    c_w = Σ_{k∈S} coefficient_k · (x_w·Â_k + appended · b̂_k / s)

with Â (or B̂) the head's query (or key) weights in the singular gauge.

| method | coefficient_k, destination | coefficient_k, source | appended |
| --- | --- | --- | --- |
| paper, all | sign(q̂_k) | sign(q̂_k) | 1 |
| exact | k̂_k | q̂_k | 0 |

For head writers `x_w·Â_k` goes through composition cores `W_O C γ Â`, one h × h matrix per pair of heads: no array of
firings × writers × d_model is ever made.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from gpt2jax.numerics import centre, einsum
from gpt2jax.params import Blocks
from svdtrace.method.bounds import Read, RoundingScale, amounts_of


@struct.dataclass
class Reader:
    """What the heads of one layer read with. Leading axis `side`: 0 the destination (query), 1 the source (key).

    `weights` = C diag(γ) Â without its last row, [side head d_model sv]; `bias` = that last row, [side head sv];
    `shift` = β Â, what a LayerNorm's bias adds (0 when folded), [side head sv]; `gain` = γ, `offset` = β (1 and 0 when
    folded); `scale` has the rank, too.
    """

    weights: Float[Array, "side head d_model sv"]
    bias: Float[Array, "side head sv"]
    shift: Float[Array, "side head sv"]
    gain: Float[Array, " d_model"]
    offset: Float[Array, " d_model"]
    scale: RoundingScale


def reader(blocks: Blocks, A: Array, B: Array, scale: RoundingScale, layer: int) -> Reader:
    """The reader of one layer, from the singular gauge's Â and B̂ of that layer, [head d_model+1 sv]."""
    gauge = jnp.stack([A, B])
    read, bias = gauge[..., :-1, :], gauge[..., -1, :]
    shift, gain = jnp.zeros_like(bias), jnp.ones(read.shape[-2], read.dtype)
    offset = jnp.zeros_like(gain)
    if blocks.ln1 is not None:
        gain, offset = blocks.ln1.w[layer].astype(read.dtype), blocks.ln1.b[layer].astype(read.dtype)
        shift = einsum("d,zndk->znk", offset, read)
        read = gain[None, None, :, None] * read
    read = read - jnp.mean(read, axis=-2, keepdims=True)
    return Reader(weights=read, bias=bias, shift=shift, gain=gain, offset=offset, scale=scale)


def writing_grams(blocks: Blocks, dtype: jnp.dtype) -> Float[Array, "layer gain head d_head d_head"]:
    """What makes `‖γ ⊙ (y C)‖² = z G zᵀ` of every head's z, for the γ of every reading layer; one where there is no γ.

    So norms of what heads write cost a product with an h × h matrix, and no y is made.
    """
    W_O = centre(blocks.W_O.astype(dtype))
    gains = jnp.ones((1, W_O.shape[-1]), dtype) if blocks.ln1 is None else blocks.ln1.w.astype(dtype)

    def of(gain: Array) -> Array:
        read = W_O * gain[None, None, None, :]
        return einsum("lnhd,lnkd->lnhk", read, read)

    # One reading layer after another: all at once would hold W_O once for each.
    return jnp.swapaxes(jax.lax.map(of, gains), 0, 1)


def written_norms(
    z: Float[Array, "prompt tok head d_head"], grams: Float[Array, "gain head d_head d_head"]
) -> Float[Array, "gain prompt tok head"]:
    """`‖γ ⊙ (y C)‖` of what the heads of a layer wrote; see `writing_grams`."""
    n_prompts, n_tokens, n_heads, _ = z.shape
    # Head first, so that the product is one of dense matrices: left to XLA on CPU it costs three times as much.
    by_head = jax.lax.optimization_barrier(jnp.moveaxis(z.reshape(n_prompts * n_tokens, n_heads, -1), 1, 0))
    square = jnp.sum(einsum("nfh,gnhk->gnfk", by_head, grams) * by_head[None], axis=-1)
    norm = jnp.sqrt(jnp.maximum(square, 0)).reshape(-1, n_heads, n_prompts, n_tokens)
    return jnp.moveaxis(norm, 1, -1)


def composition_cores(
    W_O: Float[Array, "layer writer_head d_head d_model"], weights: Float[Array, "side head d_model sv"]
) -> Float[Array, "side head layer writer_head d_head sv"]:
    """`W_O^m · Â^n` of heads m of some layers and every head n of one layer."""
    return einsum("mahd,zndk->znmahk", W_O.astype(weights.dtype), weights)


@struct.dataclass
class Written:
    """What the writers wrote at one side's token of every firing, and the reading layer's scale s there.

    Firings stand in blocks of one reader head each; z stands block first, so that its product with the cores is one
    dense matrix product per block and writer, no axis moved. `norm` = ‖γ ⊙ (y C)‖ of each head's y, where bounds are
    asked for. `others` holds the rest of the residual for `writers = all`, in the order
    MLPs by layer, embed, pos; `None` for head writers alone.

    Where what was written at several tokens is weighed and summed (`svdtrace.tracing.over_keys`), `of_biases` is the
    weights' sum, by which what is the same at every token counts, and the constant is nothing.
    """

    z: Float[Array, "block layer writer_head slot d_head"]
    norm: Float[Array, "block layer writer_head slot"] | None
    scale: Float[Array, "block slot"]
    others: Float[Array, "block component slot d_model"] | None
    of_biases: Float[Array, "block slot"] | None = None


def head_terms(
    written: Written,
    cores: Float[Array, "block layer writer_head d_head sv"],
    bias: Float[Array, "block sv"],
    appended: float,
) -> Float[Array, "block writer slot sv"]:
    """`(y·Â_k + appended · b̂_k) / s` of every head writer.

    Blocks keep the product dense: gathering a reader's matrices per firing would cost more than all the arithmetic.
    """
    terms = einsum("gmafh,gmahk->gmafk", written.z, cores)
    terms = terms.reshape(terms.shape[0], -1, *terms.shape[3:])
    return (terms + appended * bias[:, None, None, :]) / written.scale[:, None, :, None]


def other_terms(
    written: Written,
    b_O: Float[Array, "layer d_model"],
    weights: Float[Array, "block d_model sv"],
    bias: Float[Array, "block sv"],
    shift: Float[Array, "block sv"],
) -> Float[Array, "block writer slot sv"]:
    """The same for all other writers, in their order: attention biases, MLPs, embed, pos, and the constant `[β, 1]`."""
    scale = written.scale[:, None, :, None]
    biases = einsum("md,gdk->gmk", b_O.astype(weights.dtype), weights)[:, :, None]
    parts = einsum("gcfd,gdk->gcfk", written.others, weights) / scale
    n_blocks, n_slots = written.scale.shape
    const = jnp.broadcast_to((shift + bias)[:, None, None, :], (n_blocks, 1, n_slots, bias.shape[-1]))
    if written.of_biases is None:
        biases = biases / scale
    else:
        biases, const = biases * written.of_biases[:, None, :, None], jnp.zeros_like(const)
    return jnp.concatenate([biases, parts, const], axis=1)


def head_sizes(written: Written, appended: float) -> Float[Array, "block writer slot"]:
    """`‖[γ ⊙ (y C), appended]‖ / s` of every head writer."""
    norm = written.norm.reshape(written.norm.shape[0], -1, written.norm.shape[-1])
    return jnp.sqrt(jnp.square(norm) + appended**2) / written.scale[:, None, :]


def other_sizes(
    written: Written,
    b_O: Float[Array, "layer d_model"],
    gain: Float[Array, " d_model"],
    offset: Float[Array, " d_model"],
) -> Float[Array, "block writer slot"]:
    """The same for all other writers, in the order of `other_terms`."""
    scale = written.scale[:, None, :]

    def norms(values: Any) -> Array:
        weighed = gain.reshape(*[1] * (values.ndim - 1), -1) * centre(values)
        return jnp.sqrt(jnp.sum(jnp.square(weighed), axis=-1))

    biases = norms(b_O.astype(gain.dtype))[None, :, None] / scale
    const = jnp.broadcast_to(jnp.sqrt(jnp.sum(jnp.square(offset)) + 1), scale.shape)
    return jnp.concatenate([biases, norms(written.others) / scale, const], axis=1)


def contribute(
    terms: Float[Array, "*block writer slot sv"],
    coefficient: Float[Array, "*block slot sv"],
    present: Bool[Array, " writer"],
) -> Float[Array, "*block slot writer"]:
    """c_w of every writer: the terms weighed by the method's coefficients, which are 0 outside S.

    Writers that are not present (they stand above the reader) get -inf, which stands for no value.
    """
    return _of_present(jnp.sum(terms * coefficient[..., None, :, :], axis=-1), present)


def contribute_bounded(
    terms: Float[Array, "*block writer slot sv"],
    sizes: Float[Array, "*block writer slot"],
    read: Read,
    present: Bool[Array, " writer"],
) -> tuple[Float[Array, "*block slot writer"], Float[Array, "*block slot"]]:
    """`contribute`, and how far rounding may carry each of a firing's c_w (`svdtrace.method.bounds.Amounts`).

    The sums over k are taken in one go over the terms, which are many: a sum at a time costs XLA on CPU as much as
    making the terms.

    Args:
        terms: over every k; sizes: ‖x_w‖, with the appended 1 where the method appends it.
        read: what weighs the terms, and how far that is rounded.
        present: the writers below the reader.
    """
    amounts, along = amounts_of(read), (..., None, slice(None), slice(None))
    weighed = (terms * read.coefficient[along], jnp.abs(terms) * amounts.of_terms[along], jnp.square(terms))
    zero = jnp.zeros((), terms.dtype)
    sums = jax.lax.reduce(weighed, (zero,) * 3, lambda x, y: tuple(map(jnp.add, x, y)), (terms.ndim - 1,))
    weight, own, square = jax.lax.optimization_barrier(tuple(sums))
    each = own + jnp.sqrt(square) * amounts.of_norm[..., None, :] + sizes * amounts.of_size[..., None, :]
    bound = jnp.max(jnp.where(present.reshape(*[1] * (each.ndim - 2), -1, 1), each, 0), axis=-2)
    return _of_present(weight, present), bound


def _of_present(weight: Float[Array, "*block writer slot"], present: Bool[Array, " writer"]) -> Array:
    """By firing, -inf for writers that are not there."""
    weight = jnp.swapaxes(weight, -1, -2)
    return jnp.where(present.reshape(*[1] * (weight.ndim - 1), -1), weight, -jnp.inf)


def coefficients(
    method: str,
    q: Float[Array, "*firing sv"],
    k: Float[Array, "*firing sv"],
    members: Bool[Array, "*firing sv"],
) -> Float[Array, "side *firing sv"]:
    """The coefficients of the table above; 0 outside S."""
    both = jnp.stack([k, q]) if method == "exact" else jnp.stack([jnp.sign(q)] * 2)
    return jnp.where(members, both, 0)
