"""The transformer blocks: attention and MLP of GPT-2 (Radford et al. 2019), one `lax.scan` over layers.

Everything that runs a model, whole or from some layer on, goes through `run_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.activations import activation
from gpt2jax.config import GPT2Config
from gpt2jax.numerics import aligned, centre, compute_dtype, einsum
from gpt2jax.params import Blocks, LayerNorm
from gpt2jax.sites import Hook, Passage

Resid = Float[Array, "prompt tok d_model"]
Past = tuple[Float[Array, "prompt past head d_head"], Float[Array, "prompt past head d_head"]]
Observe = Callable[[dict[str, Array]], Any]
Keep = Callable[[Any, dict[str, Array], Array], Any]


def _nothing(_seen: dict[str, Array]) -> None:
    """Observe nothing."""


def _unchanged(kept: Any, _seen: dict[str, Array], _layer: Array) -> Any:
    """Carry along what was carried."""
    return kept


def attention_mask(mask: Bool[Array, "prompt tok"]) -> Bool[Array, "prompt 1 dest src"]:
    """Which sources a destination may attend to: itself and what is before it, real tokens only."""
    n_tokens = mask.shape[1]
    causal = jnp.tril(jnp.ones((n_tokens, n_tokens), dtype=bool))
    return (causal[None] & mask[:, None, :])[:, None]


def layer_norm(norm: LayerNorm | None, resid: Resid, epsilon: float, name: str, site: Passage) -> Resid:
    """What a layer reads of the residual: `w * (r C)/s + b`, `s = sqrt(var(r) + epsilon)` (METHOD.md, section 1)."""
    centred = centre(resid)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    scale = site(f"{name}.hook_scale", jnp.sqrt(variance + epsilon))
    read = centred / scale
    if norm is not None:
        read = _with_bias(read * aligned(norm.w.astype(read.dtype), read), norm.b.astype(read.dtype))
    return site(f"{name}.hook_normalized", read)


def attn_scale(config: GPT2Config, layer: Int[Array, ""] | int, dtype: jnp.dtype) -> Float[Array, ""]:
    """The factor between q·k and the attention score of a layer."""
    base = config.d_head**-0.5 if config.scale_attn_weights else 1.0
    scale = jnp.asarray(base, dtype)
    if config.scale_attn_by_inverse_layer_idx:
        scale = scale / (jnp.asarray(layer, dtype) + 1)
    return scale


def attention(
    config: GPT2Config,
    weights: Blocks,
    read: Resid,
    allowed: Bool[Array, "prompt 1 dest src"],
    site: Passage,
    past: Past | None = None,
) -> Resid:
    """What the attention layer writes: `Σ_heads z W_O + b_O`.

    Args:
        past: keys and values of tokens before those of `read`; `allowed` then has them in front of its sources.
    """
    q = site("attn.hook_q", _with_bias(einsum("btd,ndh->btnh", read, weights.W_Q), weights.b_Q))
    k = site("attn.hook_k", _with_bias(einsum("btd,ndh->btnh", read, weights.W_K), weights.b_K))
    v = site("attn.hook_v", _with_bias(einsum("btd,ndh->btnh", read, weights.W_V), weights.b_V))
    if past is not None:
        k, v = (jnp.concatenate([before, new], axis=1) for before, new in zip(past, (k, v), strict=True))
    scores = einsum("binh,bjnh->bnij", q, k) * attn_scale(config, _layer(site), q.dtype)
    scores = site("attn.hook_attn_scores", jnp.where(allowed, scores, -jnp.inf))
    pattern = site("attn.hook_pattern", masked_softmax(scores))
    z = site("attn.hook_z", einsum("bnij,bjnh->binh", pattern, v))
    if site.needs("attn.hook_result"):
        result = site("attn.hook_result", einsum("btnh,nhd->btnd", z, weights.W_O))
        written = jnp.sum(result, axis=2)
    else:
        written = einsum("btnh,nhd->btd", z, weights.W_O)
    return site("hook_attn_out", _with_bias(written, weights.b_O))


def mlp(config: GPT2Config, weights: Blocks, read: Resid, site: Passage) -> Resid:
    """What the MLP writes: `act(x W_in + b_in) W_out + b_out`."""
    pre = site("mlp.hook_pre", _with_bias(einsum("btd,de->bte", read, weights.W_in), weights.b_in))
    post = site("mlp.hook_post", activation(config.activation)(pre))
    return site("hook_mlp_out", _with_bias(einsum("bte,ed->btd", post, weights.W_out), weights.b_out))


def block(
    config: GPT2Config,
    weights: Blocks,
    resid: Resid,
    allowed: Bool[Array, "prompt 1 dest src"],
    site: Passage,
    past: Past | None = None,
) -> Resid:
    """One block: the residual after attention and MLP. `weights` has no layer axis here; `past` as for `attention`."""
    resid = site("hook_resid_pre", resid)
    read = layer_norm(weights.ln1, resid, config.layer_norm_epsilon, "ln1", site)
    resid = site("hook_resid_mid", resid + attention(config, weights, read, allowed, site, past))
    read = layer_norm(weights.ln2, resid, config.layer_norm_epsilon, "ln2", site)
    return site("hook_resid_post", resid + mlp(config, weights, read, site))


def run_blocks(
    config: GPT2Config,
    blocks: Blocks,
    resid: Resid,
    allowed: Bool[Array, "prompt 1 dest src"],
    *,
    hooks: Mapping[str, list[tuple[int | str | None, Hook]]] | None = None,
    wanted: frozenset[str] = frozenset(),
    observe: Observe = _nothing,
    keep: Keep = _unchanged,
    kept: Any = None,
    first_layer: int = 0,
) -> tuple[Resid, Any, Any]:
    """Run the residual through blocks.

    Args:
        blocks: their weights, stacked; a slice of a model's blocks runs a part of it.
        resid: the residual that enters the first of them, [prompt tok d_model].
        allowed: see `attention_mask`.
        hooks: by site, see `gpt2jax.sites.group_hooks`.
        wanted: sites that are computed only on demand (`attn.hook_result`) and are observed.
        observe: from a layer's named values to what is kept of it; stacked over layers.
        keep: carries something along: `keep(kept, seen, layer) -> kept`.
        first_layer: the layer number of the first block.

    Returns:
        The residual after the last block, what was observed (leading axis: layer), and what was carried.
    """
    layers = jnp.arange(blocks.W_Q.shape[0]) + first_layer

    def step(carry: tuple[Resid, Any], each: tuple[Array, Blocks]) -> tuple[tuple[Resid, Any], Any]:
        resid, kept = carry
        layer, weights = each
        weights = jax.tree.map(lambda array: array.astype(compute_dtype(array)), weights)
        site = Passage(hooks or {}, wanted, layer)
        resid = block(config, weights, resid, allowed, site)
        return (resid, keep(kept, site.seen, layer)), observe(site.seen)

    (resid, kept), observed = jax.lax.scan(step, (resid, kept), (layers, blocks))
    return resid, observed, kept


def _with_bias(product: Array, bias: Any) -> Array:
    return product + aligned(bias, product)


def _layer(site: Passage) -> Array | int:
    return 0 if site.layer is None else site.layer


def masked_softmax(scores: Float[Array, "*axes src"]) -> Float[Array, "*axes src"]:
    """Softmax over the sources, -inf for those left out; a destination that attends to nothing gets zeros, not NaN."""
    top = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - jnp.where(jnp.isfinite(top), top, 0.0))
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / jnp.where(total > 0, total, 1.0)
