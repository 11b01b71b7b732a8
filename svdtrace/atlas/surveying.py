"""All heads of a model held against all earlier ones, a layer of readers at a time. Numerics.

What grows with pairs × vectors, and folded and decomposed weights, live for one layer; of the layers below, what their
heads write is kept. What grows with pairs alone is gathered by `Survey`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from gpt2jax.fold import fold
from gpt2jax.params import Blocks, Model, Params
from svdtrace.atlas.composing import Reading, fall, reading_of
from svdtrace.atlas.directions import USES, used
from svdtrace.atlas.factors import SIDES, Heads, head_factors
from svdtrace.method.decomposition import Decomposition, decompose

READ_SIDES = SIDES[:2]
"""Sides with singular vectors of their own: the query's and the key's."""


@dataclass(frozen=True)
class Layer:
    """A layer of readers, and every head before it as a writer.

    `blocks`, folded, and `decomposition` are of this layer alone. `score` by `SIDES`, the other numbers of pairs by
    `READ_SIDES`; purities as in `svdtrace.atlas.factors`. `block_share` stands at each block's first vector.
    """

    layer: int
    blocks: Blocks
    decomposition: Decomposition
    heads: Heads
    reading: Reading
    within: Bool[np.ndarray, "head sv"]
    writer_purity: Float[np.ndarray, " writer"]
    score: Float[np.ndarray, "side head writer"]
    with_bias: Float[np.ndarray, "read_side head writer"]
    half: Int[np.ndarray, "read_side head writer"]
    share: Float[np.ndarray, "read_side head writer sv"]
    block_share: Float[np.ndarray, "read_side head writer sv"]


def survey_layers(model: Model) -> Iterator[Layer]:
    """The layers of a model, the lowest first.

    Args:
        model: raw or folded.

    Raises:
        ModelError: a head's query-key matrix is not finite.
        CheckpointError: folded weights are not.
    """
    written: list[Float[jax.Array, "head d_head d_model"]] = []
    purities = [np.zeros(0, np.float32)]
    for layer in range(model.config.n_layers):
        blocks, decomposition = _decomposed(model, layer)
        heads = head_factors(blocks, 0)
        reading = reading_of(decomposition, 0, heads)
        found = [_from_layer(each, reading) for each in written]
        joined = [np.concatenate(each, axis=2) for each in zip(_none(*decomposition.S.shape[1:]), *found, strict=True)]
        within, purity = np.asarray(decomposition.within_rank()[0]), np.concatenate(purities)
        yield Layer(layer, blocks, decomposition, heads, reading, within, purity, *joined)
        written.append(heads.written)
        purities.append(np.asarray(heads.written_purity))


def _decomposed(model: Model, layer: int) -> tuple[Blocks, Decomposition]:
    """A layer's folded weights, those of its MLP aside, and its decomposition."""
    heads = replace(model.params.blocks, ln2=None, W_in=None, b_in=None, W_out=None, b_out=None)
    blocks = jax.tree.map(lambda each: each[layer : layer + 1], heads)
    alone = fold(replace(model, params=Params(None, None, blocks, None, None, None)))
    return alone.params.blocks, decompose(alone, first=layer)


def _from_layer(written: Float[jax.Array, "writer d_head d_model"], reading: Reading) -> list[np.ndarray]:
    """What falls of one layer's heads as writers, in the order of `_none`."""
    fallen = fall(written, reading)
    found = fallen.score, fallen.with_bias, fallen.half, fallen.share, fallen.block
    return [np.asarray(each) for each in found]


def _none(n_heads: int, n_vectors: int) -> list[np.ndarray]:
    """Scores, scores with bias rows, vectors to a half, shares and blocks' shares of no writers."""
    score, with_bias = (np.zeros((sides, n_heads, 0), np.float32) for sides in (3, 2))
    share, block = (np.zeros((2, n_heads, 0, n_vectors), np.float32) for _ in range(2))
    return [score, with_bias, np.zeros((2, n_heads, 0), np.int32), share, block]


@dataclass
class Survey:
    """What is gathered over layers: numbers of pairs [side reader writer], NaN or 0 where the writer is no earlier
    head.

    `used` are the sums of `svdtrace.atlas.directions`.
    """

    n_layers: int
    n_heads: int
    d_model: int

    def __post_init__(self) -> None:
        many = self.n_layers * self.n_heads
        self.score = np.full((3, many, many), np.nan, np.float32)
        self.with_bias = np.full((2, many, many), np.nan, np.float32)
        self.half = np.zeros((2, many, many), np.int32)
        self.writer_purity, self.read_purity = np.zeros(many), np.zeros((3, many))
        self.used = jnp.zeros((len(USES), self.d_model, self.d_model), jnp.float32)

    def add(self, found: Layer) -> None:
        """Take in the next layer."""
        rows = slice(found.layer * self.n_heads, (found.layer + 1) * self.n_heads)
        for whole, part in ((self.score, found.score), (self.with_bias, found.with_bias), (self.half, found.half)):
            whole[:, rows, : part.shape[-1]] = part
        self.writer_purity[rows] = np.asarray(found.heads.written_purity)
        self.read_purity[:, rows] = np.asarray(found.heads.read_purity)
        self.used = self.used + used(found.heads)
