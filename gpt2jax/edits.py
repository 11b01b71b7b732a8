"""Ready-made hooks: ablate, patch and steer in one line, on a whole value, one head, or one token.

Each function returns a hook, a pure function for `gpt2jax.forward(hooks=...)`:

    forward(model, tokens, hooks={"blocks.9.attn.hook_z": on_head(6, zero())})       # ablate head 9.6
    forward(model, tokens, hooks={"blocks.9.attn.hook_z": on_head(6, replace(z))})   # patch it
    forward(model, tokens, hooks={"blocks.4.hook_resid_post": add(3.0 * direction)}) # steer
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gpt2jax.numerics import aligned
from gpt2jax.sites import Hook


def zero() -> Hook:
    """Set the value to zero (zero-ablation)."""
    return jnp.zeros_like


def replace(other: Array | np.ndarray) -> Hook:
    """Put `other` in the value's place (activation patching, mean- or resample-ablation)."""
    return lambda value: jnp.broadcast_to(other, value.shape)


def add(direction: Array | np.ndarray) -> Hook:
    """Add `direction`, broadcast to the value's shape (steering)."""
    return lambda value: value + aligned(jnp.asarray(direction), value)


def scale(factor: float | Array | np.ndarray) -> Hook:
    """Multiply the value by `factor`."""
    return lambda value: value * aligned(jnp.asarray(factor), value)


def on_head(head: int | Array, hook: Hook) -> Hook:
    """Apply `hook` to one head of a value `[prompt, tok, head, …]`; the hook sees `[prompt, tok, …]`."""
    return lambda value: value.at[:, :, head].set(hook(value[:, :, head]))


def on_pattern_head(head: int | Array, hook: Hook) -> Hook:
    """Apply `hook` to one head of a value `[prompt, head, dest, src]` (scores or pattern)."""
    return lambda value: value.at[:, head].set(hook(value[:, head]))


def on_token(token: int | Array, hook: Hook) -> Hook:
    """Apply `hook` at one token of a value `[prompt, tok, …]`; the hook sees `[prompt, …]`."""
    return lambda value: value.at[:, token].set(hook(value[:, token]))
