"""The edited run: a forward pass in which each signal that steers attention is kept or set to its mean."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import attention_mask, layer_norm, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed, final_read, unembed
from gpt2jax.numerics import einsum
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.faithfulness.means import Means
from svdtrace.method.contributions import Reader
from svdtrace.tracing.roots import logit_difference

MEASURES = ("logit_difference", "log_probability")
"""What is measured at the last traced token: logit[answer] − logit[distractor], and the answer's log-probability."""
SUFFIXES = ("", "_log_probability")
"""What names of results by each measure end in."""
QUERY_AND_KEY = ("attn.hook_q", "attn.hook_k")


@struct.dataclass
class Reading:
    """A batch of prompts with what the trace says of it.

    `length`, `last`, `answer`, `distractor` as in `svdtrace.tracing.batching.Batch`; `role` of every token, a number;
    `marks` the k that are in the slice of a firing with this token on this side.
    """

    tokens: Int[Array, "prompt tok"]
    length: Int[Array, " prompt"]
    last: Int[Array, " prompt"]
    answer: Int[Array, " prompt"]
    distractor: Int[Array, " prompt"]
    role: Int[Array, "prompt tok"]
    marks: Bool[Array, "reader_layer side prompt tok head sv"]


@struct.dataclass
class Ablation:
    """A set of edges, and whether it is what is kept or what is removed.

    `base` is 1 where everything but the set is kept, 0 where nothing but the set is. `edges` is 1 at the set's edges;
    its writers are all of METHOD.md, section 5, without const. Several sets are stacked in front.
    """

    base: Float[Array, "*set"]
    edges: Float[Array, "*set role reader_layer side head writer"]


def edited_measures(
    config: GPT2Config,
    params: Params,
    readers: tuple[Reader, ...],
    means: Means,
    codes: tuple[Int[Array, " _"], ...],
    reading: Reading,
    ablation: Ablation,
) -> Float[Array, "measure prompt"]:
    """`MEASURES` of a run with some signals at their means.

    Args:
        params: with queries and keys in the singular gauge.
        readers: of the layers ≥ 1.
        codes: for each of these layers which of the writers lie below it, in the order of `means.read`.

    Returns:
        One number a measure and prompt, which means nothing where a prompt lacks answer or distractor.
    """
    n_tokens = reading.tokens.shape[1]
    token = jnp.arange(n_tokens)[None]
    allowed = attention_mask(token < reading.length[:, None])
    stem = Passage({})
    resid = embed(params, reading.tokens, jnp.broadcast_to(token, reading.tokens.shape), stem)
    first, heads, mlps = [stem.seen["hook_embed"], stem.seen["hook_pos_embed"]], [], []
    # A loop, since each layer has more writers below it than the one before.
    for layer in range(config.n_layers):
        hooks = {}
        if layer:
            written = _written(heads, params.blocks.b_O[:layer], mlps, first)
            scale = _scale(resid, config.layer_norm_epsilon)
            signals = _signals(layer, readers, means, codes, reading, ablation, written / scale[..., None])
            hooks = _hooks(layer, means, ablation.base, signals)
        resid, (result, mlp_out), _ = run_blocks(
            config,
            jax.tree.map(lambda weights, at=layer: weights[at : at + 1], params.blocks),
            resid,
            allowed,
            hooks=hooks,
            wanted=frozenset({"attn.hook_result"}),
            observe=lambda seen: (seen["attn.hook_result"], seen["hook_mlp_out"]),
            first_layer=layer,
        )
        heads.append(result[0])
        mlps.append(mlp_out[0])
    return final_measures(config, params, resid, reading)


def final_measures(
    config: GPT2Config, params: Params, resid: Float[Array, "prompt tok d_model"], reading: Reading
) -> Float[Array, "measure prompt"]:
    """`MEASURES` of the last residual."""
    read = final_read(config, params, resid, reading.last, Passage({}))
    answer = jnp.maximum(reading.answer, 0)[:, None]
    log_probability = jnp.take_along_axis(jax.nn.log_softmax(unembed(params, read)), answer, axis=1)[:, 0]
    return jnp.stack([logit_difference(params, read, reading.answer, reading.distractor), log_probability])


def _written(heads: list[Array], b_O: Array, mlps: list[Array], first: list[Array]) -> Array:
    """What every writer below a layer wrote, [prompt tok writer d_model]."""
    n_prompts, n_tokens, _ = first[0].shape
    biases = jnp.broadcast_to(b_O.astype(first[0].dtype), (n_prompts, n_tokens, *b_O.shape))
    rest = jnp.stack([*mlps, *first], axis=2)
    return jnp.concatenate([*heads, biases, rest], axis=2)


def _scale(resid: Array, epsilon: float) -> Float[Array, "prompt tok 1"]:
    site = Passage({})
    layer_norm(None, resid, epsilon, "ln1", site)
    return site.seen["ln1.hook_scale"]


def _signals(
    layer: int,
    readers: tuple[Reader, ...],
    means: Means,
    codes: tuple[Array, ...],
    reading: Reading,
    ablation: Ablation,
    read: Float[Array, "prompt tok writer d_model"],
) -> Float[Array, "side prompt tok head sv"]:
    """Σ over the set's writers of their terms less their means, at the k that firings use."""
    at = layer - 1
    chosen = ablation.edges[:, at][..., codes[at]][reading.role]
    away = einsum("btznw,btwd->zbtnd", chosen, read - means.read[at][None, None])
    return jnp.where(reading.marks[at], einsum("zbtnd,zndk->zbtnk", away, readers[at].weights), 0)


def _hooks(layer: int, means: Means, base: Array, signals: Array) -> dict[str, Any]:
    def edited(own: Array, *, side: int) -> Array:
        mean = means.gauge[layer - 1, side][None, None]
        return mean + base * (own - mean) + (1 - 2 * base) * signals[side]

    return {site: [("*", partial(edited, side=side))] for side, site in enumerate(QUERY_AND_KEY)}
