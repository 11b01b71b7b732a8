"""The forward pass that traces: one run of the model in the singular gauge, and all that tracing needs of it.

What is kept of every token is written into memory that an earlier batch's has left, where there is one: fresh memory
for it, page by page, would cost a few percent of the pass.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from gpt2jax.blocks import attention_mask, layer_norm, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed
from gpt2jax.numerics import compute_dtype
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.method.firings import Candidates, eligible_pairs, find_candidates


@struct.dataclass
class Sizes:
    """|q̂| and |k̂|: what scores' bounds are made of, so that queries and keys need not come to the host."""

    q: Float[Array, "layer prompt tok head"]
    k: Float[Array, "layer prompt tok head"]


@struct.dataclass
class Observed:
    """What one pass over a batch leaves behind.

    `candidates` and `sizes` of all layers; `q`, `k` in the singular gauge and `z`, [layer prompt tok head d_head];
    `scale` s of ln1, [layer prompt tok]; `mlp_out` [layer prompt tok d_model], `embed`, `pos` [prompt tok d_model],
    kept for `writers = all` alone; `final_read` what the unembedding reads at the last traced token, [prompt d_model],
    and `final_scale` s_f there, [prompt].
    """

    candidates: Candidates
    sizes: Sizes
    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    z: Float[Array, "layer prompt tok head d_head"]
    scale: Float[Array, "layer prompt tok"]
    mlp_out: Float[Array, "layer prompt tok d_model"] | None
    embed: Float[Array, "prompt tok d_model"] | None
    pos: Float[Array, "prompt tok d_model"] | None
    final_read: Float[Array, "prompt d_model"]
    final_scale: Float[Array, " prompt"]


@struct.dataclass
class Room:
    """Where a pass writes what it keeps of every token of every layer: fields of `Observed`."""

    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    z: Float[Array, "layer prompt tok head d_head"]
    mlp_out: Float[Array, "layer prompt tok d_model"] | None

    @classmethod
    def of(cls, observed: Observed) -> Room:
        """The room that a batch takes up, for the next one: once that is written, the first is gone."""
        return cls(q=observed.q, k=observed.k, z=observed.z, mlp_out=observed.mlp_out)


@partial(jax.jit, static_argnames=("config", "count", "skip_first", "all_writers"), donate_argnames="room")
def observe(
    config: GPT2Config,
    params: Params,
    tokens: Int[Array, "prompt tok"],
    length: Int[Array, " prompt"],
    last: Int[Array, " prompt"],
    room: Room | None = None,
    *,
    count: int,
    skip_first: bool,
    all_writers: bool,
) -> Observed:
    """Run a batch through the model.

    Args:
        params: with queries and keys in the singular gauge (`svdtrace.method.decomposition.gauged`).
        room: of an earlier batch of the same shape and with the same writers, by default new.
        count: candidates per destination, see `svdtrace.method.firings.candidates_per_destination`.
    """
    n_tokens = tokens.shape[1]
    mask = jnp.arange(n_tokens) < length[:, None]
    positions = jnp.broadcast_to(jnp.arange(n_tokens), tokens.shape)
    eligible = eligible_pairs(length, last, n_tokens, skip_first)
    stem = Passage({})
    resid = embed(params, tokens, positions, stem)

    if room is None:
        room = new_room(config, compute_dtype(params.blocks.W_Q), tokens.shape, all_writers)

    def look(seen: dict[str, Array]) -> dict[str, Any]:
        pattern, score = seen["attn.hook_pattern"], seen["attn.hook_attn_scores"]
        return {
            "candidates": find_candidates(pattern, score, eligible, count),
            "sizes": (_norm(seen["attn.hook_q"]), _norm(seen["attn.hook_k"])),
            "scale": seen["ln1.hook_scale"][..., 0],
        }

    def write(room: Room, seen: dict[str, Array], layer: Array) -> Room:
        sites = {"q": "attn.hook_q", "k": "attn.hook_k", "z": "attn.hook_z"}
        sites |= {"mlp_out": "hook_mlp_out"} if all_writers else {}
        return replace(
            room, **{name: _at_layer(getattr(room, name), seen[site], layer) for name, site in sites.items()}
        )

    resid, seen, room = run_blocks(
        config, params.blocks, resid, attention_mask(mask), observe=look, keep=write, kept=room
    )
    at_last = jnp.take_along_axis(resid, jnp.maximum(last, 0)[:, None, None], axis=1)
    read = layer_norm(params.ln_final, at_last, config.layer_norm_epsilon, "ln_final", stem)
    q_size, k_size = seen.pop("sizes")
    return Observed(
        **seen,
        sizes=Sizes(q=q_size, k=k_size),
        **{name: getattr(room, name) for name in ("q", "k", "z", "mlp_out")},
        embed=stem.seen["hook_embed"] if all_writers else None,
        pos=stem.seen["hook_pos_embed"] if all_writers else None,
        final_read=read[:, 0],
        final_scale=stem.seen["ln_final.hook_scale"][:, 0, 0],
    )


def new_room(config: GPT2Config, dtype: jnp.dtype, shape: tuple[int, ...], all_writers: bool) -> Room:
    """Room for a batch of a shape, [prompt tok]."""
    by_head = (config.n_layers, *shape, config.n_heads, config.d_head)
    written = jnp.zeros((*by_head[:3], config.d_model), dtype) if all_writers else None
    return Room(**{name: jnp.zeros(by_head, dtype) for name in ("q", "k", "z")}, mlp_out=written)


def _at_layer(whole: Array, value: Array, layer: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(whole, value, layer, axis=0)


def _norm(vectors: Float[Array, "*axes d_head"]) -> Float[Array, "*axes"]:
    return jnp.sqrt(jnp.sum(jnp.square(vectors), axis=-1))
