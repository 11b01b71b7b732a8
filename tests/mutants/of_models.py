"""Mutants of the model: folding, the forward pass, what was written into the residual."""

from __future__ import annotations

from mutants.mutant import Mutant

FOLD, BLOCKS, RESIDUAL = "gpt2jax/fold.py", "gpt2jax/blocks.py", "gpt2jax/residual.py"
OF_FOLD, OF_FORWARD, OF_RESIDUAL = (f"tests/gpt2jax/test_{name}.py" for name in ("fold", "forward", "residual"))
OTHER_MODEL = "what is computed is another model, and everything agrees on it"

MUTANTS = (
    Mutant(
        "folding: β of a head's reader is lost",
        FOLD,
        'b = b + einsum("ld,lndh->lnh", norm.b, W)',
        'b = b + 0 * einsum("ld,lndh->lnh", norm.b, W)',
        OF_FOLD,
    ),
    Mutant(
        "folding: γ goes into the weights before β is read through them",
        FOLD,
        'b = b + einsum("ld,lndh->lnh", norm.b, W)\n    W = norm.w[:, None, :, None] * W',
        'W = norm.w[:, None, :, None] * W\n    b = b + einsum("ld,lndh->lnh", norm.b, W)',
        OF_FOLD,
    ),
    Mutant(
        "folding: the value bias is taken away from b_O",
        FOLD,
        'b_O = b_O + einsum("lnh,lnhd->ld", b_V, blocks.W_O)',
        'b_O = b_O - einsum("lnh,lnhd->ld", b_V, blocks.W_O)',
        OF_FOLD,
    ),
    Mutant(
        "forward: attention sees the next token",
        BLOCKS,
        "jnp.tril(jnp.ones((n_tokens, n_tokens), dtype=bool))",
        "jnp.tril(jnp.ones((n_tokens, n_tokens), dtype=bool), k=1)",
        OF_FORWARD,
    ),
    Mutant(
        "forward: padding is attended to",
        BLOCKS,
        "(causal[None] & mask[:, None, :])",
        "(causal[None] & (mask[:, None, :] | True))",
        OF_FORWARD,
        unseen="tracing pads on the right, where causality hides it; only padding on the left shows it",
    ),
    Mutant(
        "forward: the softmax's sum runs over destinations",
        BLOCKS,
        "total = jnp.sum(weights, axis=-1, keepdims=True)",
        "total = jnp.sum(weights, axis=-2, keepdims=True)",
        OF_FORWARD,
    ),
    Mutant(
        "forward: LayerNorm's variance is about zero",
        BLOCKS,
        "jnp.mean(jnp.square(centred), axis=-1, keepdims=True)",
        "jnp.mean(jnp.square(resid), axis=-1, keepdims=True)",
        OF_FORWARD,
    ),
    Mutant(
        "forward: the key's bias is dropped",
        BLOCKS,
        '_with_bias(einsum("btd,ndh->btnh", read, weights.W_K), weights.b_K)',
        'einsum("btd,ndh->btnh", read, weights.W_K)',
        OF_FORWARD,
    ),
    Mutant(
        "forward: the MLP's last bias is dropped",
        BLOCKS,
        '_with_bias(einsum("bte,ed->btd", post, weights.W_out), weights.b_out)',
        'einsum("bte,ed->btd", post, weights.W_out)',
        OF_FORWARD,
        unseen=OTHER_MODEL,
    ),
    Mutant(
        "forward: scores are divided by √d_model",
        BLOCKS,
        "config.d_head**-0.5",
        "config.d_model**-0.5",
        OF_FORWARD,
        unseen=OTHER_MODEL,
    ),
    Mutant(
        "residual: within a layer its own attention has not written yet",
        RESIDUAL,
        '"mid": (layer + 1, layer)',
        '"mid": (layer, layer)',
        OF_RESIDUAL,
    ),
)
