"""The plain forward pass, against which other costs are measured."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gpt2jax.blocks import attention_mask, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed
from gpt2jax.sites import Passage


@partial(jax.jit, static_argnums=0)
def plain_forward(config: GPT2Config, params: Any, tokens: Array) -> Array:
    """The blocks alone, [prompt tok d_model]: no unembedding, no taps."""
    mask = attention_mask(jnp.ones(tokens.shape, bool))
    return run_blocks(config, params.blocks, first_residual(params, tokens), mask)[0]


def first_residual(params: Any, tokens: Array) -> Array:
    """What enters the first block, [prompt tok d_model]."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return embed(params, tokens, positions, Passage({}))
