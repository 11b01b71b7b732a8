"""The parameters of a GPT-2 as a pytree, under TransformerLens' names and axes.

Layers and heads are axes of the weights, so that one `lax.scan` runs all blocks and one batched call
decomposes all heads. A field is `None` where a checkpoint does not hold it (see `gpt2jax.load(parts=...)`).
"""

from __future__ import annotations

from typing import Any

import jax
from flax import struct
from jaxtyping import Array, Float

from gpt2jax.config import GPT2Config
from gpt2jax.errors import CheckpointError
from gpt2jax.layout import Origin


@struct.dataclass
class LayerNorm:
    """Gain and bias of a LayerNorm: `x = w * centred(r) / scale + b`.

    In a block the arrays carry a leading layer axis. A folded model has `None` in its place: `x = r / scale`.
    """

    w: Float[Array, "*layer d_model"]
    b: Float[Array, "*layer d_model"]


@struct.dataclass
class Blocks:
    """The weights of all transformer blocks, stacked over layers."""

    ln1: LayerNorm | None
    W_Q: Float[Array, "*layer head d_model d_head"] | None
    b_Q: Float[Array, "*layer head d_head"] | None
    W_K: Float[Array, "*layer head d_model d_head"] | None
    b_K: Float[Array, "*layer head d_head"] | None
    W_V: Float[Array, "*layer head d_model d_head"] | None
    b_V: Float[Array, "*layer head d_head"] | None
    W_O: Float[Array, "*layer head d_head d_model"] | None
    b_O: Float[Array, "*layer d_model"] | None
    ln2: LayerNorm | None
    W_in: Float[Array, "*layer d_model d_mlp"] | None
    b_in: Float[Array, "*layer d_mlp"] | None
    W_out: Float[Array, "*layer d_mlp d_model"] | None
    b_out: Float[Array, "*layer d_model"] | None


@struct.dataclass
class Params:
    """All parameters. `W_U` and `b_U` are `None` where the unembedding is tied to `W_E` and has no bias."""

    W_E: Float[Array, "vocab d_model"] | None
    W_pos: Float[Array, "ctx d_model"] | None
    blocks: Blocks
    ln_final: LayerNorm | None
    W_U: Float[Array, "d_model vocab"] | None = None
    b_U: Float[Array, " vocab"] | None = None

    @property
    def has_unembedding(self) -> bool:
        """Whether there is an unembedding, tied or not: a model of parts, or of a body alone, may have none."""
        return self.W_U is not None or (self.W_E is not None and self.ln_final is not None)

    def require_unembedding(self) -> None:
        """See to it that there is one.

        Raises:
            CheckpointError: there is none.
        """
        if not self.has_unembedding:
            raise CheckpointError(
                "logits need an unembedding, but this model holds none; load the whole model, or one with an LM head"
            )


@struct.dataclass
class Model:
    """A GPT-2: configuration, parameters, tokenizer.

    A pytree whose leaves are the parameters; everything else is static. `processing` is `"raw"` or `"folded"`
    (section 1 of METHOD.md). `layout` remembers how the checkpoint was written, so that `gpt2jax.save` writes it back
    bit for bit; it is `None` for a model that was not read from files. `origin` says where it came from, and what is to
    be said of it.
    """

    config: GPT2Config = struct.field(pytree_node=False)
    params: Params
    tokenizer: Any = struct.field(pytree_node=False, default=None)
    processing: str = struct.field(pytree_node=False, default="raw")
    layout: Any = struct.field(pytree_node=False, default=None)
    origin: Origin = struct.field(pytree_node=False, default=Origin())

    def __repr__(self) -> str:
        """Shape and processing, on one line; its arrays have too many numbers to be read."""
        config = self.config
        arrays = jax.tree.leaves(self.params)
        dtypes = sorted({str(array.dtype) for array in arrays if hasattr(array, "dtype")})
        count = sum(getattr(array, "size", 0) for array in arrays)
        return (
            f"Model({config.n_layers} layers of {config.n_heads} heads, d_model {config.d_model}, {self.processing}, "
            f"{', '.join(dtypes)}, {count / 1e6:.1f}M parameters)"
        )
