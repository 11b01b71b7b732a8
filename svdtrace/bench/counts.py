"""The least that each stage must compute and move: FLOP and bytes as functions of shapes and firings.

A product of an m × n and an n × p matrix is 2 m n p FLOP. Values have 4 bytes (float32). Not counted, so that
a stage looks no busier than it must be: element-wise work, decisions, and what is moved more than once; a writer's z is
taken to be read for every firing, though heads of one layer may share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from gpt2jax.config import GPT2Config

VALUE = 4


@dataclass(frozen=True)
class Work:
    """FLOP to compute and bytes to move."""

    flop: int | float
    moved: int | float

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.moved + other.moved)

    @property
    def intensity(self) -> float:
        """FLOP a byte; 0 where there is nothing to do."""
        return self.flop / self.moved if self.moved else 0.0


def forward_work(config: GPT2Config, n_prompts: int, n_tokens: int) -> Work:
    """The blocks of one batch.

    A layer's products: queries, keys, values and output, `8 d² ` a token (d = heads × d_head); the MLP, `4 d e`;
    scores and weighted values, `4 T d` (all T sources, masked ones too, as they are computed). Moved: every weight
    once, and the residual into and out of each layer.
    """
    d, e, tokens = config.d_model, config.d_mlp, n_prompts * n_tokens
    flop = config.n_layers * tokens * (8 * d**2 + 4 * d * e + 4 * n_tokens * d)
    weights = config.n_layers * (4 * d**2 + 2 * d * e)
    return Work(flop=flop, moved=VALUE * (weights + 2 * config.n_layers * tokens * d))


def decomposition_work(config: GPT2Config) -> Work:
    """All heads' singular vectors by the textbook's counts (Golub & Van Loan, 4th edition, 5.2 and 8.6).

    With m = d + 1, of each head: two thin QR factorisations with their Q, `4 m h² − 4/3 h³` each; the product of the
    cores, `2 h³`; its SVD with both sides' vectors, `21 h³`; vectors put together, `2 m h²` each. Whatever algorithm
    is used, so that a slower one does not look busier. Moved: both factors in, U, V and S out.
    """
    m, h, heads = config.d_model + 1, config.d_head, config.n_layers * config.n_heads
    flop = 2 * (4 * m * h**2 - 4 / 3 * h**3) + 2 * h**3 + 21 * h**3 + 2 * (2 * m * h**2)
    return Work(flop=heads * flop, moved=VALUE * heads * (4 * m * h + h))


def attribution_work(config: GPT2Config, firings: Int[np.ndarray, "layer head"], n_sides: int) -> Work:
    """Contributions of all lower heads to one batch's firings, through composition cores (METHOD.md, section 5).

    `2 · sides · h²` for every firing and writer; a firing of layer l has l × heads writers. Moved: the cores of every
    head that fires, what each writer wrote at each firing's tokens, its q̂ and k̂, and a weight per writer out.

    Args:
        firings: how many each head has in the batch.
    """
    h = config.d_head
    writers = config.n_heads * np.arange(config.n_layers)[:, None]
    pairs = float(np.sum(firings * writers))
    cores = float(np.sum((firings > 0) * writers)) * n_sides * h**2
    values = cores + n_sides * pairs * (h + 1) + 2 * h * float(np.sum(firings))
    return Work(flop=2 * n_sides * pairs * h**2, moved=VALUE * values)
