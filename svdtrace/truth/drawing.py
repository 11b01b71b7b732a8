"""Weights written by hand, LayerNorm and all.

A residual holds features f and their mirror image, r = [f, −f]: its mean is 0, so that centring changes nothing, and
its variance is mean(f²). Gains and biases of LayerNorm are random; what reads is divided by them. A head is drawn by
what it looks for, what draws it elsewhere, and what it moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from gpt2jax.config import GPT2Config
from gpt2jax.params import Blocks, LayerNorm, Model, Params

Head = tuple[int, int]
SIDES = ("dest", "src")


def mirrored(f: Float[np.ndarray, "*rows feature"]) -> Float[np.ndarray, "*rows d_model"]:
    """What writes features."""
    return np.concatenate([f, -f], axis=-1)


def reading(f: Float[np.ndarray, "column feature"]) -> Float[np.ndarray, "d_model column"]:
    """What reads f · features of a residual, a column for each row."""
    return np.concatenate([f, -f], axis=-1).T / 2


class Drawing:
    """A GPT-2 without any weights, and what is drawn into it.

    `W` and `b` hold each matrix as it acts on the normalised residual, gains and biases aside: Q, K, V
    [layer head d_model d_head], O [layer head d_head d_model], in [layer d_model d_mlp], out [layer d_mlp d_model].

    Args:
        config: its shape; d_model is twice the number of features.
        scales: the LayerNorm scale at which each layer reads what it shall read.
    """

    def __init__(self, config: GPT2Config, scales: Sequence[float]) -> None:
        L, H, d, h, e = config.n_layers, config.n_heads, config.d_model, config.d_head, config.d_mlp
        self.config, self.scales = config, tuple(scales)
        self.W = {name: np.zeros((L, H, d, h)) for name in "QKV"} | {"O": np.zeros((L, H, h, d))}
        self.b = {name: np.zeros((L, H, h)) for name in "QKV"}
        self.W |= {"in": np.zeros((L, d, e)), "out": np.zeros((L, e, d))}
        self.b |= {"in": np.zeros((L, e)), "out": np.zeros((L, d))}
        self._read: dict[tuple[Head, str], list[np.ndarray]] = {}
        self._columns: dict[Head, int] = {}

    def looks(
        self,
        head: Head,
        wanted: Float[np.ndarray, "n feature"],
        there: Float[np.ndarray, "n feature"],
        products: Float[np.ndarray, " n"],
    ) -> None:
        """Let q·k rise by `products[n]` where the query reads 1 of `wanted[n]` and the key 1 of `there[n]`.

        Negative products repel. Products that differ make singular vectors of what is read.
        """
        size = self.scales[head[0]] * np.sqrt(np.abs(products))[:, None]
        columns = self._next(head, len(wanted))
        self.W["Q"][head][:, columns] = reading(np.sign(products)[:, None] * size * wanted)
        self.W["K"][head][:, columns] = reading(size * there)
        for side, rows in zip(SIDES, (wanted, there), strict=True):
            self._read.setdefault((head, side), []).append(rows[products > 0])

    def leans(self, head: Head, there: Float[np.ndarray, " feature"]) -> None:
        """Let q·k rise by what the key reads of `there`, whatever the query."""
        columns = self._next(head, 1)
        self.b["Q"][head][columns] = 1
        self.W["K"][head][:, columns] = reading(self.scales[head[0]] * there[None])

    def moves(self, head: Head, found: Float[np.ndarray, "n feature"], written: Float[np.ndarray, "n feature"]) -> None:
        """Let a head write `written[n]` where what it attends to reads 1 of `found[n]`."""
        self.W["V"][head][:, : len(found)] = reading(self.scales[head[0]] * found)
        self.W["O"][head][: len(written)] = mirrored(written)

    def signal(self, head: Head, side: str) -> Float[np.ndarray, "d_model r"]:
        """An orthonormal basis of what a head was made to look for on one side, in the residual."""
        rows = mirrored(np.concatenate(self._read[head, side]))
        return np.linalg.svd(rows.T, full_matrices=False)[0][:, : np.linalg.matrix_rank(rows)]

    def free_heads(self) -> list[Head]:
        """The heads that nothing was drawn into."""
        every = np.ndindex(self.config.n_layers, self.config.n_heads)
        return [head for head in every if head not in self._columns and not self.W["O"][head].any()]

    def model(
        self,
        embedding: Float[np.ndarray, "vocab feature"],
        place: Float[np.ndarray, "ctx feature"],
        rng: np.random.Generator,
    ) -> Model:
        """The drawing as a model, which can be saved.

        Args:
            embedding: features of each token; what writes them raises the token's logit.
            place: features of each position.
            rng: draws gains and biases.
        """
        L, d = self.config.n_layers, self.config.d_model
        gain, bias = rng.uniform(0.5, 2.0, (3, L, d)), 0.3 * rng.normal(size=(3, L, d))
        raw = {name: self.W[name] / gain[0][:, None, :, None] for name in "QKV"}
        b = {name: self.b[name] - np.einsum("ld,lndh->lnh", bias[0], raw[name]) for name in "QKV"}
        W_in = self.W["in"] / gain[1][:, :, None]
        b_in = self.b["in"] - np.einsum("ld,lde->le", bias[1], W_in)
        unembedding = mirrored(embedding)
        # Of the last bias only what no logit reads stays, since a checkpoint has no bias there that could undo it.
        read = np.linalg.qr(unembedding.T)[0]
        last = gain[2][0] * (bias[2][0] - read @ (read.T @ bias[2][0]))
        blocks = Blocks(
            ln1=_norm(gain[0], bias[0]),
            **{f"W_{name}": _f32(raw[name]) for name in "QKV"},
            **{f"b_{name}": _f32(b[name]) for name in "QKV"},
            W_O=_f32(self.W["O"]),
            b_O=_f32(np.zeros((L, d))),
            ln2=_norm(gain[1], bias[1]),
            W_in=_f32(W_in),
            b_in=_f32(b_in),
            W_out=_f32(self.W["out"]),
            b_out=_f32(self.b["out"]),
        )
        params = Params(
            W_E=_f32(unembedding),
            W_pos=_f32(mirrored(place)),
            blocks=blocks,
            ln_final=_norm(gain[2][0], last),
            W_U=_f32(unembedding.T / gain[2][0][:, None]),
        )
        return Model(config=self.config, params=params)

    def _next(self, head: Head, count: int) -> slice:
        """Columns of queries and keys that are not taken yet."""
        start = self._columns.get(head, 0)
        self._columns[head] = start + count
        return slice(start, start + count)


def _norm(gain: np.ndarray, bias: np.ndarray) -> LayerNorm:
    return LayerNorm(w=_f32(gain), b=_f32(bias))


def _f32(array: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(array, jnp.float32)
