"""Models and prompts of one shape with drawn values, and what rounding may do to what is traced of them.

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
from svdtrace.config import TraceConfig
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.prompts import Prompt
from svdtrace.tracing.batching import Batch, batches
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared

EPS = float(np.finfo(np.float32).eps)
CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=48, n_ctx=16, d_vocab=40)
N_TOKENS = 12
LENGTHS = (12, 7, 9, 5, 12, 10)
SHORT_HEAD = (1, 2)
"""The head of a drawn model whose query weights have a smaller rank."""

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


def random_tokens(seed: int, count: int = 4) -> np.ndarray:
    """Token ids [prompt tok]."""
    return np.random.default_rng(seed).integers(0, CONFIG.d_vocab, (count, N_TOKENS)).astype(np.int32)


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


@dataclass(frozen=True)
class Rounding:
    """How far rounding may carry a firing's numbers (METHOD.md, section 4, without the mixing of near-equal singular
    vectors, since what is compared shares its decomposition): 5e-5 of the norms that the numbers are made of.
    """

    q: np.ndarray
    k: np.ndarray
    scale: np.ndarray
    root: np.ndarray
    written: np.ndarray

    @classmethod
    def of(cls, prepared: Prepared, prompts: list[Prompt], config: TraceConfig) -> Rounding:
        observed = watch(prepared, one_batch(prompts), config)
        norm = np.linalg.norm(np.asarray(prepared.model.params.blocks.W_O), axis=(-2, -1))
        z = np.linalg.norm(np.asarray(observed.z), axis=-1)
        return cls(
            q=np.linalg.norm(np.asarray(observed.q), axis=-1),
            k=np.linalg.norm(np.asarray(observed.k), axis=-1),
            scale=np.asarray(observed.scale),
            root=np.sqrt(np.asarray(prepared.decomposition.S[..., 0])),
            # |y| ≤ |z| |W_O| of the head that writes most.
            written=np.max(z * norm[:, None, None], axis=(0, 3)),
        )

    def product(self, row: dict) -> float:
        """Of a product, and of a sum of those of a slice."""
        q, k, root = self._sizes(row)
        return ACTIVATION_ERROR * (q + root) * (k + root)

    def weight(self, row: dict) -> float:
        """Of a head's contribution: `exact` weighs `y·Â_k / s`, at most √σ_0 |y| / s, by the other side's k̂ or q̂."""
        q, k, root = self._sizes(row)
        other = k if row["side"] == "dest" else q
        token = row["dest"] if row["side"] == "dest" else row["src"]
        heard = self.written[row["prompt"], token] / self.scale[row["layer"], row["prompt"], token]
        return ACTIVATION_ERROR * (other + root) * root * (heard + 1)

    def _sizes(self, row: dict) -> tuple[float, float, float]:
        layer, prompt, head = row["layer"], row["prompt"], row["head"]
        q, k = self.q[layer, prompt, row["dest"], head], self.k[layer, prompt, row["src"], head]
        return float(q), float(k), float(self.root[layer, head])
