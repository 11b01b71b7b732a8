"""Many edits in one compiled program, from the first edited layer and token on.

Tokens before the edited one, and layers below it, are those of the clean run: their keys and values are taken from
there. An edit is data, so that `vmap` goes over edits.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import block
from gpt2jax.config import GPT2Config
from gpt2jax.numerics import compute_dtype, einsum
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.interventions.clean import Aligned, read_out

ATTENTION, MLP = 0, 1
STEM = -1
NOWHERE = -1


@struct.dataclass
class Writes:
    """What is added to what layers write, entry by entry.

    `part`: ATTENTION or MLP output of `layer`; layer STEM is the first residual. `token`: place in the window, NOWHERE
    where a prompt is not edited. `before`: the clean value there, which the edited one is compared with.
    """

    layer: Int[Array | np.ndarray, "*edit entry"]
    part: Int[Array | np.ndarray, "*edit entry"]
    token: Int[Array | np.ndarray, "*edit entry prompt"]
    delta: Float[Array | np.ndarray, "*edit entry prompt d_model"]
    before: Float[Array | np.ndarray, "*edit entry prompt d_model"]


@struct.dataclass
class Reads:
    """What is added to queries, keys and values (axis `qkv`) of single heads at single tokens.

    `hold`: where they are those of the clean run to begin with, at all tokens.
    """

    layer: Int[Array | np.ndarray, "*edit entry"]
    head: Int[Array | np.ndarray, "*edit entry"]
    token: Int[Array | np.ndarray, "*edit entry prompt"]
    delta: Float[Array | np.ndarray, "*edit entry prompt qkv d_head"]
    hold: Bool[Array | np.ndarray, "*edit entry prompt qkv"]


@struct.dataclass
class Watched:
    """The pair whose score is looked at: dest is a place in the window, src one among all tokens, both aligned."""

    layer: Int[Array | np.ndarray, "*edit"]
    head: Int[Array | np.ndarray, "*edit"]
    dest: Int[Array | np.ndarray, "*edit prompt"]
    src: Int[Array | np.ndarray, "*edit prompt"]


@struct.dataclass
class Outcome:
    """What edits do: logit difference, KL(clean ‖ edited) of the next token, score and pattern of the pair watched.

    `square` and `product`: of every value that Writes edit, y·y and y·before.
    """

    logit_difference: Float[Array, "*edit prompt"]
    kl: Float[Array, "*edit prompt"]
    score: Float[Array, "*edit prompt"]
    pattern: Float[Array, "*edit prompt"]
    square: Float[Array, "*edit entry prompt"]
    product: Float[Array, "*edit entry prompt"]


@partial(jax.jit, static_argnames=("config", "window"))
def run_windows(
    config: GPT2Config,
    params: Params,
    aligned: Aligned,
    first: Int[Array, ""],
    writes: Writes,
    reads: Reads,
    watched: Watched,
    answer: Int[Array, " prompt"],
    distractor: Int[Array, " prompt"],
    *,
    window: int,
) -> Outcome:
    """Run edits of one batch of prompts, leading axis edit.

    Args:
        first: the first layer that any of them edits; runs start from its clean residual.
        window: how many tokens up to the last traced one are computed.
    """
    run = partial(_run, config, params, aligned, first, answer, distractor, window)
    return jax.vmap(run)(writes, reads, watched)


def _run(
    config: GPT2Config,
    params: Params,
    aligned: Aligned,
    first: Array,
    answer: Array,
    distractor: Array,
    window: int,
    writes: Writes,
    reads: Reads,
    watched: Watched,
) -> Outcome:
    n_tokens = aligned.resid_pre.shape[2]
    before = n_tokens - window
    token = jnp.arange(n_tokens)
    allowed = (token <= token[before:, None])[None] & (token >= aligned.start[:, None])[:, None, :]
    stem = _Edits(writes, reads, jnp.asarray(STEM), None)
    resid = stem.add(_layer(aligned.resid_pre, first)[:, before:], ATTENTION)
    nothing = jnp.zeros(aligned.start.shape, resid.dtype)

    def step(layer: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        resid, score, pattern, square, product = carry
        weights = jax.tree.map(lambda array: _layer(array, layer).astype(compute_dtype(array)), params.blocks)
        clean = tuple(_layer(getattr(aligned, name), layer) for name in "qkv")
        edits = _Edits(writes, reads, layer, tuple(each[:, before:] for each in clean))
        site = Passage(edits.hooks(), layer=layer)
        past = (clean[1][:, :before], clean[2][:, :before])
        resid = block(config, weights, resid, allowed[:, None], site, past)
        here = watched.layer == layer
        score = jnp.where(here, _at(site.seen["attn.hook_attn_scores"], watched), score)
        pattern = jnp.where(here, _at(site.seen["attn.hook_pattern"], watched), pattern)
        more = edits.compare(site.seen["hook_attn_out"], site.seen["hook_mlp_out"])
        return resid, score, pattern, square + more[0], product + more[1]

    start = stem.compare(resid, resid)
    carry = (resid, nothing, nothing, *start)
    resid, score, pattern, square, product = jax.lax.fori_loop(first, config.n_layers, step, carry)
    logits = read_out(config, params, resid[:, -1:])[:, 0]
    log_before, log_after = jax.nn.log_softmax(aligned.logits), jax.nn.log_softmax(logits)
    kl = jnp.sum(jnp.exp(log_before) * (log_before - log_after), axis=-1)
    return Outcome(logit_difference(logits, answer, distractor), kl, score, pattern, square, product)


def logit_difference(
    logits: Float[Array, "prompt vocab"], answer: Int[Array, " prompt"], distractor: Int[Array, " prompt"]
) -> Float[Array, " prompt"]:
    """logit[answer] − logit[distractor]; NaN where a prompt lacks one of them (-1)."""
    prompt = jnp.arange(logits.shape[0])
    difference = logits[prompt, jnp.maximum(answer, 0)] - logits[prompt, jnp.maximum(distractor, 0)]
    return jnp.where((answer >= 0) & (distractor >= 0), difference, jnp.nan)


class _Edits:
    """The entries of one edit that belong to one layer."""

    def __init__(self, writes: Writes, reads: Reads, layer: Array, clean: tuple[Array, ...] | None) -> None:
        self.writes, self.reads, self.layer, self.clean = writes, reads, layer, clean

    def place(self, part: int, window: int) -> Float[Array, "entry prompt tok"]:
        """1 where an entry edits a part of this layer."""
        mine = (self.writes.layer == self.layer) & (self.writes.part == part)
        at = self.writes.token[..., None] == jnp.arange(window)
        return (at & mine[:, None, None]).astype(self.writes.delta.dtype)

    def add(self, value: Float[Array, "prompt tok d_model"], part: int) -> Float[Array, "prompt tok d_model"]:
        """What a part of the layer writes, edited."""
        return value + einsum("ebt,ebd->btd", self.place(part, value.shape[1]), self.writes.delta)

    def compare(
        self, attention: Array, mlp: Array
    ) -> tuple[Float[Array, "entry prompt"], Float[Array, "entry prompt"]]:
        """Squares of this layer's edited values, and products with what they were."""
        parts = ((ATTENTION, attention), (MLP, mlp))
        after = sum(einsum("ebt,btd->ebd", self.place(part, value.shape[1]), value) for part, value in parts)
        return jnp.sum(jnp.square(after), axis=-1), jnp.sum(after * self.writes.before, axis=-1)

    def read(self, value: Float[Array, "prompt tok head d_head"], which: int) -> Float[Array, "prompt tok head d_head"]:
        """Queries, keys or values, edited."""
        reads = self.reads
        head = (reads.head[:, None] == jnp.arange(value.shape[2])) & (reads.layer == self.layer)[:, None]
        held = jnp.any(head[:, None] & reads.hold[..., which, None], axis=0)
        value = jnp.where(held[:, None, :, None], self.clean[which], value)
        at = (reads.token[..., None] == jnp.arange(value.shape[1])).astype(value.dtype)
        return value + einsum("ebt,en,ebh->btnh", at, head.astype(value.dtype), reads.delta[:, :, which])

    def hooks(self) -> Any:
        """Hooks for this layer's passage."""
        named = {
            **{f"attn.hook_{name}": partial(self.read, which=which) for which, name in enumerate("qkv")},
            "hook_attn_out": partial(self.add, part=ATTENTION),
            "hook_mlp_out": partial(self.add, part=MLP),
        }
        return {site: [("*", hook)] for site, hook in named.items()}


def _layer(values: Array, layer: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(values, layer, keepdims=False)


def _at(values: Float[Array, "prompt head dest src"], watched: Watched) -> Float[Array, " prompt"]:
    """The value of the pair watched."""
    return values[jnp.arange(values.shape[0]), watched.head, watched.dest, watched.src]
