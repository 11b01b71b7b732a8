"""Heads that write the answer: by direct effect (METHOD.md, section 11), and by ablating each head's output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import attention_mask, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed
from gpt2jax.numerics import einsum
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.faithfulness.editing import MEASURES, Reading, final_measures
from svdtrace.faithfulness.measuring import Bench

HEADS_PER_CALL = 8


def head_ablations(
    bench: Bench, progress: Callable[[int, int], None] | None = None
) -> Float[np.ndarray, "layer head measure prompt"]:
    """What is measured with one head's output z at its mean over the traced tokens, at every token."""
    config = bench.config
    layer, head = np.divmod(np.arange(config.n_layers * config.n_heads), config.n_heads)
    found = np.empty((len(layer), len(MEASURES), bench.n_prompts))
    done, total = 0, len(layer) * len(bench.readings)
    size = min(HEADS_PER_CALL, len(layer))
    for reading, places in zip(bench.readings, bench.places, strict=True):
        for start in range(0, len(layer), size):
            chosen = np.minimum(np.arange(start, start + size), len(layer) - 1)
            values = _ablated(config, bench.params, bench.means.z, reading, layer[chosen], head[chosen])
            found[chosen[:, None], :, places] = np.asarray(values).transpose(0, 2, 1)[:, : len(places)]
            done += len(np.unique(chosen))
            if progress is not None:
                progress(done, total)
    return found.reshape(config.n_layers, config.n_heads, *found.shape[1:])


@partial(jax.jit, static_argnames=("config",))
def _ablated(
    config: GPT2Config,
    params: Params,
    z: Float[Array, "layer head d_head"],
    reading: Reading,
    layer: Int[Array, " ablated"],
    head: Int[Array, " ablated"],
) -> Float[Array, "ablated measure prompt"]:
    return jax.vmap(partial(_without, config, params, z, reading))(layer, head)


def _without(config: GPT2Config, params: Params, z: Array, reading: Reading, layer: Array, head: Array) -> Array:
    """One head ablated: what it writes on average goes into its layer's bias, and it writes nothing itself."""
    n_tokens = reading.tokens.shape[1]
    token = jnp.arange(n_tokens)[None]
    positions = jnp.broadcast_to(token, reading.tokens.shape)
    W_O = params.blocks.W_O[layer, head].astype(z.dtype)
    b_O = params.blocks.b_O.at[layer].add(einsum("h,hd->d", z[layer, head], W_O).astype(params.blocks.b_O.dtype))
    blocks = replace(params.blocks, W_O=params.blocks.W_O.at[layer, head].set(0), b_O=b_O)
    allowed = attention_mask(token < reading.length[:, None])
    resid, _, _ = run_blocks(config, blocks, embed(params, reading.tokens, positions, Passage({})), allowed)
    return final_measures(config, params, resid, reading)


def overlap(
    root: Bool[np.ndarray, "prompt head"], ablation: Float[np.ndarray, "prompt head"]
) -> Float[np.ndarray, " prompt"]:
    """In each prompt, the share of its root heads among as many with the largest drops by ablation; NaN without."""
    place = np.argsort(np.argsort(-ablation, axis=1, kind="stable"), axis=1)
    count = root.sum(axis=1)
    return np.where(count > 0, (root & (place < count[:, None])).sum(axis=1) / np.maximum(count, 1), np.nan)
