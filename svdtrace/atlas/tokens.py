"""The tokens at the ends of singular vectors: what queries and keys read, what values read and outputs write."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jaxtyping import Array, Float, Int

from gpt2jax.numerics import einsum
from gpt2jax.params import Model
from svdtrace.atlas.schemas import SCHEMAS, filled
from svdtrace.atlas.surveying import Layer
from svdtrace.atlas.tabulating import names_at
from svdtrace.method.decomposition import orthogonalise

KINDS = ("q", "k", "read", "written")
ENDS = ("+", "-")
AT_EACH_END = 5


def tokens_by_layer(model: Model, most: int) -> Callable[[Layer], pa.Table] | None:
    """What gives a layer's part of `tokens.parquet`; `None` for a model without token embeddings.

    A token is read as LayerNorm gives it to the first layer without a position: `W_E C / s` with its own scale s.

    Args:
        model: folded; of its embeddings and its unembedding.
        most: vectors of each head and matrix, the largest singular values first.
    """
    params = model.params
    if params.W_E is None or most < 1:
        return None
    scale = jnp.sqrt(jnp.mean(jnp.square(params.W_E), axis=-1, keepdims=True) + model.config.layer_norm_epsilon)
    tokens = [(params.W_E / scale).T] * 3 + ([params.W_U] if params.W_U is not None else [])

    def of_layer(found: Layer) -> pa.Table:
        ends = [
            _ends(each, tokens[kind], min(AT_EACH_END, tokens[kind].shape[1]))
            for kind, each in enumerate(_vectors(found, most)[: len(tokens)])
        ]
        return _table(model, found.layer, [tuple(np.asarray(each) for each in one) for one in ends])

    return of_layer


def _vectors(found: Layer, most: int) -> list[Float[Array, "head d_model k"]]:
    """Of `KINDS`, without the entries of bias rows."""
    decomposition, blocks = found.decomposition, found.blocks
    query, key = (each[0, :, :-1, :most] for each in (decomposition.U, decomposition.V))
    thin = jnp.stack([blocks.W_V[0], jnp.swapaxes(blocks.W_O[0], -1, -2)])
    Q, R = jax.block_until_ready(orthogonalise(thin))
    left, _, right = np.linalg.svd(np.asarray(einsum("nhk,nmk->nhm", *R)))
    read = einsum("ndh,nhk->ndk", Q[0], jnp.asarray(left[..., :most]))
    written = einsum("ndh,nhk->ndk", Q[1], jnp.asarray(np.swapaxes(right, -1, -2)[..., :most]))
    return [query, key, read, written]


@jax.jit(static_argnames=("most",))
def _ends(
    vectors: Float[Array, "head d_model k"], tokens: Float[Array, "d_model vocab"], most: int
) -> tuple[Float[Array, "end head k rank"], Int[Array, "end head k rank"]]:
    """Values and tokens farthest along each vector and against it."""
    values = einsum("ndk,dv->nkv", vectors, tokens)
    along, against = jax.lax.top_k(values, most), jax.lax.top_k(-values, most)
    return jnp.stack([along[0], -against[0]]), jnp.stack([along[1], against[1]])


def _table(model: Model, layer: int, found: list[tuple[np.ndarray, ...]]) -> pa.Table:
    parts = [SCHEMAS["tokens"].empty_table()]
    for kind, (values, tokens) in enumerate(found):
        ids = np.moveaxis(tokens, 0, 2)
        head, vector, end, rank = (each.reshape(-1) for each in np.indices(ids.shape))
        token = ids.reshape(-1)
        strings = map(str, token.tolist()) if model.tokenizer is None else model.tokenizer.strings(token.tolist())
        columns = {
            "layer": np.full(len(token), layer),
            "head": head,
            "vectors": names_at(KINDS, np.full(len(token), kind)),
            "vector": vector,
            "end": names_at(ENDS, end),
            "rank": rank + 1,
            "token": token,
            "string": list(strings),
            "value": np.moveaxis(values, 0, 2).reshape(-1),
        }
        parts.append(filled("tokens", columns))
    return pa.concat_tables(parts)
