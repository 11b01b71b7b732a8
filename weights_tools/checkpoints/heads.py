"""Attention heads in numbers, a layer at a time: how well conditioned their weights are, how close their σ lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

import gpt2jax
from gpt2jax.checkpoint import parameter_views, params_from
from gpt2jax.checkpoint_names import TABLE
from gpt2jax.config import GPT2Config
from gpt2jax.tensor_file import StoredTensor, read_tensor

NEAR = 0.01
"""How close a singular value's neighbour is, relative to the larger of the two."""
_EPS = float(np.finfo(np.float32).eps)
_READING = ("ln_1.weight", "ln_1.bias", "attn.c_attn.weight", "attn.c_attn.bias")


@dataclass(frozen=True)
class HeadFacts:
    """One head.

    Attributes:
        layer, head: which.
        condition_W_Q, condition_W_K: largest over smallest singular value of the weights as stored, [d_model, d_head];
            `None` where the smallest is rounding, at most d_model × eps of float32 of the largest.
        sigma: the largest singular value of its query-key matrix (METHOD.md, section 2), LayerNorm folded in.
        within_rank: how many of that matrix's singular values count, σ_k > σ_0 (d_model + 1) eps of float32.
        near: how many of these have a neighbour within `NEAR`.
    """

    layer: int
    head: int
    condition_W_Q: float | None
    condition_W_K: float | None
    sigma: float
    within_rank: int
    near: int


def head_facts(
    config: GPT2Config, tensors: dict[str, StoredTensor], advance: Callable[[int, int], object] | None = None
) -> Iterator[HeadFacts]:
    """The facts of every head, layer by layer; no more than one layer's heads are read at a time.

    Args:
        config: the model's.
        tensors: by the table's names; those of `ln_1` and `attn.c_attn` are read, and must be finite.
        advance: called with how many layers are done and how many there are.

    Raises:
        CheckpointError: a file ends early, or weights so large that folding them overflows.
    """
    for layer in range(config.n_layers):
        raw, folded = _read_layer(config, tensors, layer)
        condition = [_condition(np.asarray(each)[0]) for each in (raw.W_Q, raw.W_K)]
        S = query_key_sigma(folded)
        within = S[:, :1] * (config.d_model + 1) * _EPS < S
        near = near_neighbours(S, within)
        for head in range(config.n_heads):
            count = int(np.count_nonzero(within[head])), int(np.count_nonzero(near[head]))
            yield HeadFacts(layer, head, condition[0][head], condition[1][head], float(S[head, 0]), *count)
        if advance is not None:
            advance(layer + 1, config.n_layers)


def near_neighbours(
    S: Float[np.ndarray, "head sv"], within: Bool[np.ndarray, "head sv"]
) -> Bool[np.ndarray, "head sv"]:
    """Which singular values, descending, have one above or below them within `NEAR`, both of them within the rank."""
    joined = (S[:, :-1] - S[:, 1:] <= NEAR * S[:, :-1]) & within[:, 1:]
    edge = np.zeros((len(S), 1), bool)
    return np.concatenate([joined, edge], axis=1) | np.concatenate([edge, joined], axis=1)


def query_key_sigma(blocks: gpt2jax.Blocks) -> Float[np.ndarray, "head sv"]:
    """Singular values of `[W_Q ; b_Q] [W_K ; b_K]ᵀ` of one layer's heads, descending, in float64.

    A tall factor F is Q R with R = Λ^½ Vᵀ of FᵀF = V Λ Vᵀ: products of matrices instead of reflections. What that loses
    of small values is √eps of float64, far below what counts as within the rank.
    """
    factors = []
    for W, b in ((blocks.W_Q, blocks.b_Q), (blocks.W_K, blocks.b_K)):
        gram = _gram(np.concatenate([np.asarray(W)[0], np.asarray(b)[0][:, None, :]], axis=1))
        _, squares, Vh = np.linalg.svd(gram)
        factors.append(np.sqrt(squares)[..., None] * Vh)
    return np.linalg.svd(factors[0] @ factors[1].transpose(0, 2, 1), compute_uv=False)


def _read_layer(
    config: GPT2Config, tensors: dict[str, StoredTensor], layer: int
) -> tuple[gpt2jax.Blocks, gpt2jax.Blocks]:
    """What reads of one layer's heads, raw and folded; the layer axis has length 1."""
    values = {}
    for entry in TABLE:
        if entry.name.removeprefix("h.{layer}.") in _READING:
            stored = read_tensor(tensors[entry.name.format(layer=layer)])
            for name, view in zip(entry.parameters, parameter_views(stored, entry, config), strict=True):
                values[name] = jnp.asarray(view, jnp.float32)[None]
    model = gpt2jax.Model(config=config, params=params_from(values))
    return model.params.blocks, gpt2jax.fold(model).params.blocks


def _condition(W: Float[np.ndarray, "head d_model d_head"]) -> list[float | None]:
    S = np.sqrt(np.linalg.svd(_gram(W), compute_uv=False))
    return [float(s[0] / s[-1]) if s[0] * W.shape[1] * _EPS < s[-1] else None for s in S]


def _gram(F: Float[np.ndarray, "head row d_head"]) -> Float[np.ndarray, "head d_head d_head"]:
    wide = F.astype(np.float64)
    return wide.transpose(0, 2, 1) @ wide
