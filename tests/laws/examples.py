"""Models and prompts of one shape with drawn values.

Compilation is what costs, so every law shares these shapes; hypothesis draws seeds, scales and ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st

import gpt2jax
from svdtrace.prompts import Prompt
from svdtrace.tracing.batching import Batch, batches

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=48, n_ctx=16, d_vocab=40)
N_TOKENS = 12
LENGTHS = (12, 7, 9, 5, 12, 10)
SHORT_HEAD = (1, 2)
"""The head of a drawn model whose query weights have a smaller rank."""
LONG = {
    "double_precision",
    "raw_and_folded",
    "sweep_is_trace",
    "uncompiled",
    "gauge_gradient",
    "hook_gradient",
    "mapped",
    "p_values_uniform",
    "equal_values_turned",
    "identity_hooks",
}
"""Laws that compile or compute for long, whatever they are tried on."""

# What is drawn are seeds: there is nothing to shrink.
few = settings(max_examples=5, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
seeds = st.integers(0, 2**16)


@dataclass(frozen=True)
class Drawn:
    """A raw model of `CONFIG`; the queries of one head span `rank` of its dimensions."""

    seed: int
    std: float
    rank: int

    def model(self) -> gpt2jax.Model:
        return shortened(random_model(self.seed, self.std), self.rank)


models = st.builds(Drawn, seed=seeds, std=st.sampled_from([0.2, 0.35, 0.45]), rank=st.sampled_from([5, 0, 1, 8]))


def random_model(seed: int, std: float = 0.45) -> gpt2jax.Model:
    return gpt2jax.random_model(CONFIG, jax.random.key(seed), std=std, biases=0.3)


def shortened(model: gpt2jax.Model, rank: int) -> gpt2jax.Model:
    """The model with `[W_Q ; b_Q]` of one head projected onto `rank` of its d_head dimensions."""
    basis, _ = np.linalg.qr(np.random.default_rng(rank).normal(size=(CONFIG.d_head, CONFIG.d_head)))
    projector = jnp.asarray(basis[:, :rank] @ basis[:, :rank].T, jnp.float32)
    blocks = model.params.blocks
    W_Q = blocks.W_Q.at[SHORT_HEAD].set(blocks.W_Q[SHORT_HEAD] @ projector)
    b_Q = blocks.b_Q.at[SHORT_HEAD].set(blocks.b_Q[SHORT_HEAD] @ projector)
    return model.replace(params=model.params.replace(blocks=blocks.replace(W_Q=W_Q, b_Q=b_Q)))


def random_prompts(seed: int) -> list[Prompt]:
    """Prompts of `LENGTHS`, some with an `end` before their last token."""
    rng = np.random.default_rng(seed)
    return [
        prompt(rng.integers(0, CONFIG.d_vocab, length), {"end": length - 3} if place % 2 else {})
        for place, length in enumerate(LENGTHS)
    ]


def prompt(tokens: np.ndarray, roles: dict[str, int]) -> Prompt:
    ids = tuple(int(token) for token in tokens)
    return Prompt(id=None, tokens=ids, strings=tuple(map(str, ids)), roles=roles)


def one_batch(prompts: list[Prompt]) -> Batch:
    """All prompts in one batch of the shape that tracing them takes."""
    (batch,) = batches(prompts, (N_TOKENS,), "auto", CONFIG.n_heads, "cpu")
    return batch
