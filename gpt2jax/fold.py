"""The equivalent model without LayerNorm parameters (METHOD.md, section 1; TransformerLens' default processing)."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool

from gpt2jax.errors import CheckpointError
from gpt2jax.finite import count_not_finite
from gpt2jax.numerics import aligned, centre, compute_dtype, einsum
from gpt2jax.params import Blocks, LayerNorm, Model, Params


def fold(model: Model) -> Model:
    """Fold γ, β and the value biases into their neighbours and centre everything that is read or written.

    Args:
        model: a raw model; `None` fields stay `None`. A folded model is returned as it is.

    Returns:
        A model with `processing="folded"`: the same log-probabilities, `x = r/s`, an unembedding of its own.

    Raises:
        CheckpointError: folded weights that are not finite, since the raw ones are not or are too large.
    """
    if model.processing == "folded":
        return model
    params, finite = _folded(model.params)
    if not isinstance(finite, Tracer) and not np.all(finite):
        raise CheckpointError(_not_finite(params))
    return replace(model, params=params, processing="folded")


def _not_finite(params: Params) -> str:
    found = {
        jax.tree_util.keystr(path, simple=True, separator="."): count_not_finite(np.asarray(leaf, np.float64))
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    held = ", ".join(f"{name} holds {count:,}" for name, count in found.items() if count)
    remedy = "give a model whose weights are finite and not so large, or ask for processing raw"
    return f"folded weights are not finite: of such values {held}; {remedy}"


# One program: a model's first fold would take longer to compile, step by step, than to compute.
@jax.jit
def _folded(params: Params) -> tuple[Params, Bool[Array, ""]]:
    """Folded parameters, and whether all of them are finite."""
    folded = _folded_params(params)
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(folded)]
    return folded, jnp.all(jnp.stack(finite))


def _folded_params(params: Params) -> Params:
    final = params.ln_final
    W_U = params.W_U if params.W_U is not None else None if params.W_E is None else params.W_E.T
    if W_U is not None and final is not None:
        W_U, b_U = _folded_unembedding(W_U, params.b_U, final)
    else:
        W_U, b_U = None, None
    return Params(
        W_E=_centred(params.W_E),
        W_pos=_centred(params.W_pos),
        blocks=_folded_blocks(params.blocks),
        ln_final=None,
        W_U=W_U,
        b_U=b_U,
    )


def _folded_unembedding(W_U: Array, b_U: Array | None, final: LayerNorm) -> tuple[Array, Array]:
    """As a token's row: a tied unembedding lies in memory so, and columns of it would be far apart."""
    W = W_U.T
    b_U = jnp.zeros(len(W), W.dtype) if b_U is None else b_U
    b_U = b_U + einsum("vd,d->v", W, final.b)
    W = centre(aligned(final.w, W) * W)
    # A constant over the vocabulary leaves log-probabilities alone; without it directions of the unembedding are
    # differences between tokens.
    return (W - jnp.mean(W, axis=0, keepdims=True)).T, centre(b_U)


def _folded_blocks(blocks: Blocks) -> Blocks:
    b_O = blocks.b_O
    if b_O is not None and blocks.W_O is not None and blocks.b_V is not None:
        b_V = blocks.b_V
        if blocks.ln1 is not None:
            b_V = b_V + einsum("ld,lndh->lnh", blocks.ln1.b, blocks.W_V)
        b_O = b_O + einsum("lnh,lnhd->ld", b_V, blocks.W_O)
    W_Q, b_Q = _folded_head_reader(blocks.W_Q, blocks.b_Q, blocks.ln1)
    W_K, b_K = _folded_head_reader(blocks.W_K, blocks.b_K, blocks.ln1)
    W_V, _ = _folded_head_reader(blocks.W_V, blocks.b_V, blocks.ln1)
    W_in, b_in = blocks.W_in, blocks.b_in
    if W_in is not None and b_in is not None and blocks.ln2 is not None:
        W_in, b_in = _folded_reader(W_in, b_in, blocks.ln2, "ld,lde->le")
    return Blocks(
        ln1=None,
        W_Q=W_Q,
        b_Q=b_Q,
        W_K=W_K,
        b_K=b_K,
        W_V=W_V,
        b_V=None if blocks.b_V is None else jnp.zeros_like(blocks.b_V),
        W_O=_centred(blocks.W_O),
        b_O=_centred(b_O),
        ln2=None,
        W_in=W_in,
        b_in=b_in,
        W_out=_centred(blocks.W_out),
        b_out=_centred(blocks.b_out),
    )


def _folded_reader(W: Array, b: Array, norm: LayerNorm, product: str) -> tuple[Array, Array]:
    """`b + β W` and `C diag(γ) W`, for W [… d_model out]."""
    b = b + einsum(product, norm.b, W)
    W = norm.w[..., None] * W
    return W - jnp.mean(W, axis=-2, keepdims=True), b


def _folded_head_reader(W: Array | None, b: Array | None, norm: LayerNorm | None) -> tuple[Array | None, Array | None]:
    if W is None or b is None or norm is None:
        return W, b
    b = b + einsum("ld,lndh->lnh", norm.b, W)
    W = norm.w[:, None, :, None] * W
    return W - jnp.mean(W, axis=-2, keepdims=True), b


def _centred(written: Array | None) -> Array | None:
    """What a writer adds to the residual, without its mean; summed in at least float32."""
    return None if written is None else centre(written.astype(compute_dtype(written))).astype(written.dtype)
