"""Many edits in one compiled program, from the first edited layer and token on.

Tokens before the edited one, and layers below it, are those of the clean run: their keys and values are taken from
there. An edit is data, so that `vmap` goes over edits.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import block, layer_norm
from gpt2jax.config import GPT2Config
from gpt2jax.forward import final_read, unembed
from gpt2jax.numerics import compute_dtype, einsum
from gpt2jax.params import Blocks, Params
from gpt2jax.sites import Hook, Passage
from svdtrace.interventions.clean import Aligned

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

    `hold`: where they are those of the clean run to begin with, at all tokens; `resid`: what is added to the residual
    that such a head reads, `delta` being nothing then, where its LayerNorm is computed anew from what reaches it; `qkv`
    which of the three that changes.
    """

    layer: Int[Array | np.ndarray, "*edit entry"]
    head: Int[Array | np.ndarray, "*edit entry"]
    token: Int[Array | np.ndarray, "*edit entry prompt"]
    delta: Float[Array | np.ndarray, "*edit entry prompt qkv d_head"]
    hold: Bool[Array | np.ndarray, "*edit entry prompt"]
    resid: Float[Array | np.ndarray, "*edit entry prompt d_model"] | None
    qkv: Bool[Array | np.ndarray, "*edit entry qkv"]


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


@partial(jax.jit, static_argnames=("config", "window", "stem"))
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
    stem: bool,
) -> Outcome:
    """Run edits of one batch of prompts, leading axis edit.

    Args:
        first: the first layer that any of them edits; runs start from its clean residual.
        window: how many tokens up to the last traced one are computed.
        stem: whether any of them edits the first residual, so that nothing of the first layer is as it was.
    """

    def one(writes: Writes, reads: Reads, watched: Watched) -> Outcome:
        run = _Run(config, params, aligned, window, writes, reads, watched)
        return run.outcome(first, answer, distractor, stem)

    return jax.vmap(one)(writes, reads, watched)


class _Run:
    """One edit's run over a window of last tokens."""

    def __init__(
        self,
        config: GPT2Config,
        params: Params,
        aligned: Aligned,
        window: int,
        writes: Writes,
        reads: Reads,
        watched: Watched,
    ) -> None:
        self.config, self.params, self.aligned = config, params, aligned
        self.writes, self.reads, self.watched = writes, reads, watched
        n_tokens = aligned.resid_pre.shape[2]
        self.before = n_tokens - window
        token = jnp.arange(n_tokens)[None]
        causal = token <= token[0, self.before :, None]
        self.allowed = (causal[None] & (token >= aligned.start[:, None])[:, None, :])[:, None]

    def outcome(self, first: Array, answer: Array, distractor: Array, stem: bool) -> Outcome:
        """Run from a layer on, and read the output."""
        start = _Edits(self.writes, self.reads, jnp.asarray(STEM), {})
        resid = start.add(_layer(self.aligned.resid_pre, first)[:, self.before :], ATTENTION)
        nothing = jnp.zeros(self.aligned.start.shape, resid.dtype)
        carry = (resid, nothing, nothing, *start.compare(resid, resid))
        if not stem:
            # What the first edited layer reads is clean, so most of its attention is known.
            carry = self.step(first, carry, begins=True)
            first = first + 1
        step = partial(self.step, begins=False)
        resid, score, pattern, square, product = jax.lax.fori_loop(first, self.config.n_layers, step, carry)
        last = jnp.full(resid.shape[0], resid.shape[1] - 1)
        logits = unembed(self.params, final_read(self.config, self.params, resid, last, Passage({})))
        log_before, log_after = jax.nn.log_softmax(self.aligned.logits), jax.nn.log_softmax(logits)
        kl = jnp.sum(jnp.exp(log_before) * (log_before - log_after), axis=-1)
        return Outcome(logit_difference(logits, answer, distractor), kl, score, pattern, square, product)

    def renormalised(self, weights: Blocks, resid: Float[Array, "prompt tok d_model"]) -> Reads:
        """The edits of a layer's readers as additions to what they read: `LN(r ± δ) − LN(r)`, r as it is now."""
        reads, epsilon = self.reads, self.config.layer_norm_epsilon
        entering = resid[jnp.arange(resid.shape[0])[None], jnp.maximum(reads.token, 0)]
        before, after = (
            layer_norm(weights.ln1, each, epsilon, "ln1", Passage({})) for each in (entering, entering + reads.resid)
        )
        read_with = jnp.stack([getattr(weights, f"W_{name}") for name in "QKV"], axis=1)[reads.head]
        delta = einsum("ebd,ezdh->ebzh", after - before, read_with)
        return replace(reads, delta=jnp.where(reads.qkv[:, None, :, None], delta, 0))

    def step(self, layer: Array, carry: tuple[Array, ...], *, begins: bool) -> tuple[Array, ...]:
        """One layer; `begins`: the first one, whose input is clean."""
        resid, score, pattern, square, product = carry
        weights = jax.tree.map(lambda array: _layer(array, layer).astype(compute_dtype(array)), self.params.blocks)
        clean = {name: _layer(getattr(self.aligned, name), layer) for name in ("q", "k", "v", "attn_out")}
        reads = self.reads if self.reads.resid is None else self.renormalised(weights, resid)
        edits = _Edits(self.writes, reads, layer, {name: value[:, self.before :] for name, value in clean.items()})
        site = Passage(edits.hooks(begins), layer=layer)
        past = (clean["k"][:, : self.before], clean["v"][:, : self.before])
        resid = block(self.config, weights, resid, self.allowed, site, past)
        if edits.reads_anything or not begins:  # a layer that writers alone edit first has no reader
            here = self.watched.layer == layer
            score = jnp.where(here, _at(site.seen["attn.hook_attn_scores"], self.watched), score)
            pattern = jnp.where(here, _at(site.seen["attn.hook_pattern"], self.watched), pattern)
        more = edits.compare(site.seen["hook_attn_out"], site.seen["hook_mlp_out"])
        return resid, score, pattern, square + more[0], product + more[1]


def logit_difference(
    logits: Float[Array, "prompt vocab"], answer: Int[Array, " prompt"], distractor: Int[Array, " prompt"]
) -> Float[Array, " prompt"]:
    """logit[answer] − logit[distractor]; means nothing where a prompt lacks one of them (-1)."""
    prompt = jnp.arange(logits.shape[0])
    return logits[prompt, jnp.maximum(answer, 0)] - logits[prompt, jnp.maximum(distractor, 0)]


class _Edits:
    """The entries of one edit that belong to one layer; `clean`: its values in the window."""

    def __init__(self, writes: Writes, reads: Reads, layer: Array, clean: dict[str, Array]) -> None:
        self.writes, self.reads, self.layer, self.clean = writes, reads, layer, clean

    @property
    def reads_anything(self) -> bool:
        """Whether the edit has entries of the reading kind."""
        return self.reads.layer.shape[0] > 0

    def place(self, part: int, window: int) -> Float[Array, "entry prompt tok"]:
        """1 where an entry edits a part of this layer."""
        mine = (self.writes.layer == self.layer) & (self.writes.part == part)
        at = self.writes.token[..., None] == jnp.arange(window)[None, None]
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

    def read(self, value: Float[Array, "prompt tok head d_head"], name: str) -> Float[Array, "prompt tok head d_head"]:
        """Queries, keys or values, edited."""
        reads, which = self.reads, "qkv".index(name)
        head = (reads.head[:, None] == jnp.arange(value.shape[2])[None]) & (reads.layer == self.layer)[:, None]
        held = jnp.any(head[:, None] & reads.hold[..., None], axis=0)
        value = jnp.where(held[:, None, :, None], self.clean[name], value)
        at = (reads.token[..., None] == jnp.arange(value.shape[1])[None, None]).astype(value.dtype)
        return value + einsum("ebt,en,ebh->btnh", at, head.astype(value.dtype), reads.delta[:, :, which])

    def hooks(self, begins: bool) -> Any:
        """Hooks for this layer's passage.

        Where it `begins`, they take clean values instead of those computed, which the compiler then leaves out.
        """
        named = {"hook_attn_out": partial(self.add, part=ATTENTION), "hook_mlp_out": partial(self.add, part=MLP)}
        if self.reads_anything:
            named |= {f"attn.hook_{name}": partial(self.read, name=name) for name in "qkv"}
        if begins:
            taken = [f"attn.hook_{name}" for name in "qkv"] if self.reads_anything else ["hook_attn_out"]
            named |= {site: partial(_instead, self.clean[site.rpartition("hook_")[2]], named[site]) for site in taken}
        return {site: [("*", hook)] for site, hook in named.items()}


def _instead(clean: Array, hook: Hook, _value: Array) -> Array:
    """A hook's result on the clean value."""
    return hook(clean)


def _layer(values: Array, layer: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(values, layer, keepdims=False)


def _at(values: Float[Array, "prompt head dest src"], watched: Watched) -> Float[Array, " prompt"]:
    """The value of the pair watched."""
    return values[jnp.arange(values.shape[0]), watched.head, watched.dest, watched.src]
