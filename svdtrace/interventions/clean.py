"""The forward pass without edits, and what interventions keep of it."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import attention_mask, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed, final_read, unembed
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.tracing.finite import finite_in_all, finite_layer

_KEPT = {
    "resid_pre": "hook_resid_pre",
    "scale": "ln1.hook_scale",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "mlp_out": "hook_mlp_out",
}


@struct.dataclass
class Clean:
    """A batch's values without edits; q and k in the singular gauge.

    `logits` of the next token at the last traced one; `finite`: see `svdtrace.tracing.finite`.
    """

    resid_pre: Float[Array, "layer prompt tok d_model"]
    scale: Float[Array, "layer prompt tok 1"]
    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    v: Float[Array, "layer prompt tok head d_head"]
    z: Float[Array, "layer prompt tok head d_head"]
    attn_out: Float[Array, "layer prompt tok d_model"]
    mlp_out: Float[Array, "layer prompt tok d_model"]
    embed: Float[Array, "prompt tok d_model"]
    pos: Float[Array, "prompt tok d_model"]
    logits: Float[Array, "prompt vocab"]
    finite: Bool[Array, " prompt"]


@struct.dataclass
class Aligned:
    """Values that a run from a later layer and token on needs, each prompt's last traced token moved to the last place.

    So every window of last tokens is one slice. `start` is the place of a prompt's first token.
    """

    start: Int[Array, " prompt"]
    resid_pre: Float[Array, "layer prompt tok d_model"]
    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    v: Float[Array, "layer prompt tok head d_head"]
    attn_out: Float[Array, "layer prompt tok d_model"]
    logits: Float[Array, "prompt vocab"]


@partial(jax.jit, static_argnames=("config",))
def run_clean(
    config: GPT2Config,
    params: Params,
    tokens: Int[Array, "prompt tok"],
    length: Int[Array, " prompt"],
    last: Int[Array, " prompt"],
) -> tuple[Clean, Aligned]:
    """Run a batch through a folded model whose queries and keys are in the singular gauge.

    Args:
        last: the last traced token; -1 in a row that only fills the batch.
    """
    n_tokens = tokens.shape[1]
    token = jnp.arange(n_tokens)[None]
    positions = jnp.broadcast_to(token, tokens.shape)
    mask = attention_mask(token < length[:, None])
    stem = Passage({})
    resid = embed(params, tokens, positions, stem)
    resid, seen, _ = run_blocks(
        config,
        params.blocks,
        resid,
        mask,
        observe=lambda seen: {
            **{name: seen[site] for name, site in _KEPT.items()},
            "finite": finite_layer(seen, token <= last[:, None], mask),
        },
    )
    logits = unembed(params, final_read(config, params, resid, last, Passage({})))
    finite = finite_in_all(seen.pop("finite"), last, logits)
    clean = Clean(**seen, finite=finite, embed=stem.seen["hook_embed"], pos=stem.seen["hook_pos_embed"], logits=logits)
    start = n_tokens - 1 - last
    place = jnp.maximum(token - start[:, None], 0)

    def moved(values: Array) -> Array:
        index = place[None].reshape(1, *place.shape, *[1] * (values.ndim - 3))
        return jnp.take_along_axis(values, index, axis=2)

    aligned = Aligned(
        start=start,
        **{name: moved(seen[name]) for name in ("resid_pre", "q", "k", "v", "attn_out")},
        logits=logits,
    )
    return clean, aligned
