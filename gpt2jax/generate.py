"""Continue prompts, greedily or by sampling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from gpt2jax.errors import InputError
from gpt2jax.forward import checked_inputs, forward
from gpt2jax.params import Model


def generate(
    model: Model,
    tokens: Int[Array | np.ndarray, "prompt tok"],
    n_new: int,
    *,
    temperature: float = 0.0,
    key: Key[Array, ""] | None = None,
) -> Int[Array, "prompt total"]:
    """Append `n_new` tokens to every prompt.

    Args:
        tokens: prompts of one length, [prompt tok].
        n_new: how many tokens to add.
        temperature: 0 takes the most likely token; otherwise tokens are drawn from softmax(logits / temperature).
        key: a `jax.random.key`, needed for sampling.

    Returns:
        Prompts with what was added, [prompt tok + n_new].

    Raises:
        InputError: the whole would be longer than the model reads, or sampling without a key.
        CheckpointError: the model holds only a part of its weights, or has no LM head.
    """
    model.params.require_unembedding()
    tokens, _, _ = checked_inputs(model, tokens, None, None)
    total = tokens.shape[1] + n_new
    if n_new < 0 or total > model.config.n_ctx:
        raise InputError(
            f"{tokens.shape[1]} + {n_new} tokens, but the model reads at most {model.config.n_ctx}; ask for fewer"
        )
    if temperature < 0 or (temperature > 0 and key is None):
        raise InputError(f"temperature is {temperature}; give 0, or a positive value and key=jax.random.key(seed)")
    keys = jax.random.split(jax.random.key(0) if key is None else key, max(n_new, 1))[:n_new]
    padded = jnp.pad(tokens, ((0, 0), (0, n_new)))
    static = replace(model, tokenizer=None, layout=None)
    return _continued(static, padded, keys, jnp.asarray(temperature, jnp.float32), tokens.shape[1], temperature > 0)


@partial(jax.jit, static_argnames=("start", "sampled"))
def _continued(model: Model, tokens: Array, keys: Array, temperature: Array, start: int, sampled: bool) -> Array:
    def step(tokens: Array, each: tuple[Array, Array]) -> tuple[Array, None]:
        place, key = each
        logits = forward(model, tokens).logits[:, place - 1]
        new = jax.random.categorical(key, logits / temperature) if sampled else jnp.argmax(logits, axis=-1)
        return tokens.at[:, place].set(new.astype(tokens.dtype)), None

    places = start + jnp.arange(keys.shape[0])
    return jax.lax.scan(step, tokens, (places, keys))[0]
