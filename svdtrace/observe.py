"""The forward pass that traces: one run of the model in the singular gauge, and all that tracing needs of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from gpt2jax.blocks import attention_mask, layer_norm, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.firings import Candidates, eligible_pairs, find_candidates


@struct.dataclass
class Observed:
    """What one pass over a batch leaves behind.

    `candidates` of all layers; `q`, `k` in the singular gauge and `z`, [layer prompt tok head d_head]; `scale` s of
    ln1, [layer prompt tok]; `mlp_out` [layer prompt tok d_model], `embed`, `pos` [prompt tok d_model], kept for
    `writers = all` alone; `final_read` what the unembedding reads at the last traced token, [prompt d_model], and
    `final_scale` s_f there, [prompt].
    """

    candidates: Candidates
    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    z: Float[Array, "layer prompt tok head d_head"]
    scale: Float[Array, "layer prompt tok"]
    mlp_out: Float[Array, "layer prompt tok d_model"] | None
    embed: Float[Array, "prompt tok d_model"] | None
    pos: Float[Array, "prompt tok d_model"] | None
    final_read: Float[Array, "prompt d_model"]
    final_scale: Float[Array, " prompt"]


@partial(jax.jit, static_argnames=("config", "count", "skip_first", "all_writers"))
def observe(
    config: GPT2Config,
    params: Params,
    tokens: Int[Array, "prompt tok"],
    length: Int[Array, " prompt"],
    last: Int[Array, " prompt"],
    *,
    count: int,
    skip_first: bool,
    all_writers: bool,
) -> Observed:
    """Run a batch through the model.

    Args:
        params: with queries and keys in the singular gauge (`svdtrace.decomposition.gauged`).
        count: candidates per destination, see `svdtrace.firings.candidates_per_destination`.
    """
    n_tokens = tokens.shape[1]
    mask = jnp.arange(n_tokens) < length[:, None]
    positions = jnp.broadcast_to(jnp.arange(n_tokens), tokens.shape)
    eligible = eligible_pairs(length, last, n_tokens, skip_first)
    stem = Passage({})
    resid = embed(params, tokens, positions, stem)

    def look(seen: dict[str, Array]) -> dict[str, Any]:
        pattern, score = seen["attn.hook_pattern"], seen["attn.hook_attn_scores"]
        return {
            "candidates": find_candidates(pattern, score, eligible, count),
            "q": seen["attn.hook_q"],
            "k": seen["attn.hook_k"],
            "z": seen["attn.hook_z"],
            "scale": seen["ln1.hook_scale"][..., 0],
            "mlp_out": seen["hook_mlp_out"] if all_writers else None,
        }

    resid, seen, _ = run_blocks(config, params.blocks, resid, attention_mask(mask), observe=look)
    at_last = jnp.take_along_axis(resid, jnp.maximum(last, 0)[:, None, None], axis=1)
    read = layer_norm(params.ln_final, at_last, config.layer_norm_epsilon, "ln_final", stem)
    return Observed(
        **seen,
        embed=stem.seen["hook_embed"] if all_writers else None,
        pos=stem.seen["hook_pos_embed"] if all_writers else None,
        final_read=read[:, 0],
        final_scale=stem.seen["ln_final.hook_scale"][:, 0, 0],
    )
