"""Whose tracing is measured: a model of somebody's, or random weights that fire as often as asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from gpt2jax.blocks import attention_mask, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.load import load
from gpt2jax.params import Model
from gpt2jax.random import random_model
from svdtrace.bench.forward import first_residual
from svdtrace.config import TraceConfig
from svdtrace.prompts.prompt import Prompt

GPT2_SMALL = GPT2Config(n_layers=12, n_heads=12, d_model=768, d_mlp=3072, n_ctx=1024, d_vocab=50257)
# Exponents of 2 between which the gain of queries and keys is looked for.
LOWEST, HIGHEST = -3.0, 6.0
STEPS = 14
NEAR = 0.01
"""A gain is good enough when its firings are so near, relatively, to those asked for."""


@dataclass(frozen=True)
class Subject:
    """A model's folder or hub id and its revision, or random weights of a shape; `gain` scales queries and keys."""

    source: str | None = None
    shape: GPT2Config = GPT2_SMALL
    gain: float = 1.0
    revision: str | None = None

    def model(self) -> Model:
        """The model, raw."""
        if self.source is None:
            return sharpened(random_model(self.shape, jax.random.key(0)), self.gain)
        return sharpened(load(self.source, revision=self.revision), self.gain)

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` takes, as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Subject:
        """The subject that `to_dict` wrote down."""
        return cls(content["source"], GPT2Config(**content["shape"]), content["gain"], content["revision"])


def random_prompts(config: GPT2Config, count: int, length: int) -> list[Prompt]:
    """Prompts of random tokens, all of one length: `length`, or the longest that the model reads."""
    length = min(length, config.n_ctx)
    tokens = np.random.default_rng(0).integers(0, config.d_vocab, (count, length))
    return [Prompt(id=None, tokens=tuple(row), strings=tuple(map(str, row))) for row in tokens.tolist()]


def firing_model(config: GPT2Config, prompts: Sequence[Prompt], firings: int = 60) -> tuple[Model, float]:
    """A random model whose queries and keys are scaled until about `firings` a prompt occur, and that gain."""
    model = random_model(config, jax.random.key(0))
    gain = gain_for(model, prompts, firings)
    return sharpened(model, gain), gain


def gain_for(model: Model, prompts: Sequence[Prompt], firings: int) -> float:
    """The gain at which about `firings` a prompt occur, or the nearest one there is.

    Unscaled, a random model's attention is nearly even, and its heads fire at token 1 alone.
    """
    low, high = LOWEST, HIGHEST
    tried: dict[float, float] = {}
    for _ in range(STEPS):
        middle = (low + high) / 2
        tried[2**middle] = found = firings_per_prompt(sharpened(model, 2**middle), prompts)
        if abs(found - firings) <= NEAR * firings:
            break
        low, high = (middle, high) if found < firings else (low, middle)
    return min(tried, key=lambda gain: abs(tried[gain] - firings))


def sharpened(model: Model, gain: float) -> Model:
    """The model with its queries and keys, biases too, times `gain`: scores grow by its square."""
    if gain == 1:
        return model
    blocks = model.params.blocks
    names = ("W_Q", "b_Q", "W_K", "b_K")
    scaled = {name: (getattr(blocks, name) * gain).astype(getattr(blocks, name).dtype) for name in names}
    return replace(model, params=replace(model.params, blocks=replace(blocks, **scaled)))


def firings_per_prompt(model: Model, prompts: Sequence[Prompt]) -> float:
    """How many pairs fire at the default settings, counted without tracing them."""
    tokens = np.asarray([prompt.tokens for prompt in prompts], np.int32)
    return float(_count_firings(model.config, model.params, tokens)) / len(prompts)


@partial(jax.jit, static_argnums=0)
def _count_firings(config: GPT2Config, params: Any, tokens: Array) -> Array:
    default = TraceConfig()

    def fired(seen: dict[str, Array]) -> Array:
        pattern, score = seen["attn.hook_pattern"], seen["attn.hook_attn_scores"]
        fires = (pattern >= default.threshold) & (score >= default.score_min)
        return jnp.sum(fires[..., 1:])

    mask = attention_mask(jnp.ones(tokens.shape, bool))
    counts = run_blocks(config, params.blocks, first_residual(params, tokens), mask, observe=fired)[1]
    return jnp.sum(jnp.asarray(counts)[1:])
