"""Roots from the output, heads split by the tokens that they attended to: by the probability of target tokens, or by a
direction (METHOD.md, section 14.7).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.config import GPT2Config
from gpt2jax.forward import unembed
from gpt2jax.numerics import centre, einsum
from gpt2jax.params import Params
from gpt2jax.residual import read_direction, unembedding
from gpt2jax.tokenizer import Tokenizer
from svdtrace.config import ANSWER
from svdtrace.errors import RootError
from svdtrace.method.edges import covering
from svdtrace.method.relative import NODE_WEIGHTS, NODES
from svdtrace.method.taking import falling
from svdtrace.prompts.values import whole_number
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.roots import RootHeads, logit_direction

FALL = 0.8
"""The share of J that the roots together are worth."""
TOP_P, TOP_K = "top-p", "top-k"


@dataclass(frozen=True)
class Targets:
    """Which tokens the roots raise: those of `ids`, the likeliest that hold a probability `share`, the `count`
    likeliest, or (`answer`) each prompt's answer, and the top token where it has none.
    """

    kind: Literal["answer", "ids", "top-p", "top-k"]
    ids: tuple[int, ...] = ()
    share: float = 1.0
    count: int = 1


def parse_targets(text: str, tokenizer: Tokenizer | None, config: GPT2Config) -> Targets:
    """Read `answer`, `top-p 0.9`, `top-k 3`, or tokens joined by commas: texts of one token each, or ids.

    Raises:
        RootError: it is none of these.
    """
    if text == ANSWER:
        return Targets("answer")
    kind, _, number = text.partition(" ")
    if kind == TOP_P:
        share = _number(number)
        if not 0 < share <= 1:
            raise RootError(f'targets are "{text}"; give top-p with a share above 0 and at most 1, such as top-p 0.9')
        return Targets("top-p", share=share)
    if kind == TOP_K:
        count = whole_number(number)
        if count is None or not 1 <= count <= config.d_vocab:
            raise RootError(f'targets are "{text}"; give top-k with a number from 1 to {config.d_vocab}')
        return Targets("top-k", count=count)
    return Targets("ids", ids=tuple(dict.fromkeys(_token(part, tokenizer, config) for part in text.split(","))))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _token(text: str, tokenizer: Tokenizer | None, config: GPT2Config) -> int:
    found = None if tokenizer is None else tokenizer.token_id(text)
    found = whole_number(text.strip()) if found is None else found
    if found is None or not 0 <= found < config.d_vocab:
        raise RootError(
            f'target "{text}" is not one token of the model; give texts of one token each, a leading space included, '
            "or token ids, joined by commas; or answer, top-p 0.9, top-k 3"
        )
    return found


@struct.dataclass
class Parts:
    """What may be taken out of the output at the last traced token, by its value: heads split by the token attended to,
    and the rest as it was written, in the order attention biases, MLPs, embed, pos.
    """

    heads: Float[Array, "prompt layer head tok"]
    others: Float[Array, "prompt other"]
    pattern: Float[Array, "layer prompt head tok"]
    written: Float[Array, "prompt other d_model"]

    def values(self) -> Float[Array, "prompt candidate"]:
        """All of them in their order."""
        return jnp.concatenate([self.heads.reshape(len(self.heads), -1), self.others], axis=-1)


def parts_along(
    params: Params,
    observed: Observed,
    last: Int[Array, " prompt"],
    attn_scales: Float[Array, " layer"],
    direction: Float[Array, "prompt d_model"],
    *,
    others: bool,
) -> Parts:
    """What was written along a direction of what the unembedding reads, s_f held.

    Args:
        others: whether what is no head is looked at, too.
    """
    read = read_direction(params, direction) / observed.final_scale[:, None]

    def there(values: Array) -> Array:
        at = jnp.maximum(last, 0).reshape(1, -1, 1, *[1] * (values.ndim - 3))
        return jnp.take_along_axis(values, at, axis=2)[:, :, 0]

    score = attn_scales[:, None, None, None] * einsum("lbnh,lbtnh->lbnt", there(observed.q), observed.k)
    before = jnp.arange(score.shape[-1], dtype=last.dtype) <= last[:, None]
    pattern = jax.nn.softmax(jnp.where(before[None, :, None], score, -jnp.inf), axis=-1)
    asked = einsum("lnhd,bd->blnh", params.blocks.W_O.astype(read.dtype), read)
    assert observed.v is not None
    heads = jnp.swapaxes(pattern, 0, 1) * einsum("lbtnh,blnh->blnt", observed.v, asked)
    heads = jnp.where(before[:, None, None], heads, -jnp.inf)
    written = jnp.zeros((len(last), 0, read.shape[-1]), read.dtype)
    if others and observed.mlp_out is not None and observed.embed is not None and observed.pos is not None:
        biases = jnp.broadcast_to(params.blocks.b_O.astype(read.dtype)[:, None], there(observed.mlp_out).shape)
        stem = there(jnp.stack([observed.embed, observed.pos]))
        written = jnp.moveaxis(jnp.concatenate([biases, there(observed.mlp_out), stem]), 0, 1)
    return Parts(heads, einsum("bcd,bd->bc", written, read), pattern, written)


@jax.jit
def split_root_heads(
    params: Params,
    observed: Observed,
    last: Int[Array, " prompt"],
    attn_scales: Float[Array, " layer"],
    answer: Int[Array, " prompt"],
    distractor: Int[Array, " prompt"],
    coverage: Float[Array, ""],
) -> RootHeads:
    """`svdtrace.tracing.roots.root_heads`, heads split by the tokens that they attended to."""
    logits = unembed(params, observed.final_read)
    direction, target = logit_direction(params, logits, answer, distractor)
    parts = parts_along(params, observed, last, attn_scales, direction, others=False)
    chosen = covering(parts.heads.reshape(len(last), -1), coverage).reshape(parts.heads.shape)
    probability = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), target[:, None], axis=-1)[:, 0]
    return _of_parts(parts, chosen, target, probability)


def _of_parts(parts: Parts, chosen: Array, target: Array, probability: Array) -> RootHeads:
    effect = jnp.sum(jnp.where(chosen, parts.heads, 0), axis=-1)
    return RootHeads(effect, jnp.any(chosen, axis=-1), target.astype(jnp.int32), probability, chosen)


@partial(jax.jit, static_argnames="targets")
def probability_roots(
    params: Params,
    observed: Observed,
    last: Int[Array, " prompt"],
    attn_scales: Float[Array, " layer"],
    answer: Int[Array, " prompt"],
    *,
    targets: Targets,
) -> RootHeads:
    """What made the targets as likely as they are: taken out of the output, the largest value first, until their
    log-probability has fallen by `FALL` of what it is above that of no writer at all.

    `effect` is in nats: `r_c · W_U (q* − p̄)`, q* the targets' own shares, p̄ the path's mean of all probabilities.
    """
    logits = unembed(params, observed.final_read)
    norm = params.ln_final
    nothing = jnp.zeros_like(observed.final_read[:1])
    nothing = nothing if norm is None else nothing + norm.b.astype(nothing.dtype)[None]
    start = jnp.broadcast_to(unembed(params, nothing), logits.shape)
    probability = jax.nn.softmax(logits, axis=-1)
    asked = _wanted(targets, probability, answer)
    wanted = jnp.where(asked, probability, 0)
    # Of the targets alone, since all of their probabilities together may be too small to be told from 0.
    share = jax.nn.softmax(jnp.where(asked, logits, -jnp.inf), axis=-1)
    W_U = unembedding(params).astype(logits.dtype)
    direction = einsum("bv,dv->bd", share - _path_mean(start, logits), W_U)
    parts = parts_along(params, observed, last, attn_scales, direction, others=True)

    def likelihood(read: Array) -> Float[Array, " prompt"]:
        return jnp.sum(share * jax.nn.log_softmax(unembed(params, read), axis=-1), axis=-1)

    none = jnp.sum(share * jax.nn.log_softmax(start, axis=-1), axis=-1)
    taken = _taken(params, observed, parts, likelihood, none, last)
    chosen = taken[:, : parts.heads[0].size].reshape(parts.heads.shape)
    return _of_parts(parts, chosen, jnp.argmax(share, axis=-1), jnp.sum(wanted, axis=-1))


def _wanted(targets: Targets, probability: Float[Array, "prompt vocab"], answer: Array) -> Bool[Array, "prompt vocab"]:
    """Which tokens are targets."""
    token = jnp.arange(probability.shape[-1], dtype=answer.dtype)
    if targets.kind == "ids":
        return jnp.broadcast_to(
            jnp.any(token == jnp.asarray(targets.ids, token.dtype)[:, None], axis=0), probability.shape
        )
    if targets.kind == "answer":
        top = jnp.argmax(probability, axis=-1).astype(answer.dtype)
        return token == jnp.where(answer < 0, top, answer)[:, None]
    place = jnp.argsort(falling(probability), axis=-1)
    if targets.kind == "top-k":
        return place < targets.count
    ranked = -jnp.sort(-probability, axis=-1)
    before = jnp.cumsum(ranked, axis=-1) - ranked
    return jnp.take_along_axis(before < targets.share, place, axis=-1)


def _path_mean(start: Float[Array, "prompt vocab"], end: Float[Array, "prompt vocab"]) -> Float[Array, "prompt vocab"]:
    """p̄ = ∫ softmax(start + α (end − start)) dα, by the rule of section 14.1."""
    edges = np.asarray([0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1])
    width = np.diff(edges)[:, None]
    alpha = (edges[:-1, None] + (NODES + 1) / 2 * width).ravel()
    weight = (NODE_WEIGHTS / 2 * width).ravel()

    def step(total: Array, node: Array) -> tuple[Array, None]:
        return total + node[1] * jax.nn.softmax(start + node[0] * (end - start), axis=-1), None

    nodes = jnp.asarray(np.stack([alpha, weight], -1), start.dtype)
    return jax.lax.scan(step, jnp.zeros_like(start), nodes)[0]


def _taken(
    params: Params, observed: Observed, parts: Parts, likelihood: Any, none: Array, last: Array
) -> Bool[Array, "prompt candidate"]:
    """The candidates taken out of what the unembedding reads, one a step for every prompt that goes on."""
    values = parts.values()
    order = falling(values)
    n_prompts, n_layers, n_heads, n_tokens = parts.heads.shape
    prompt, whole = jnp.arange(n_prompts), likelihood(observed.final_read)
    W_O, norm = params.blocks.W_O.astype(values.dtype), params.ln_final
    gain = 1.0 if norm is None else norm.w.astype(values.dtype)

    def written(candidate: Array) -> Float[Array, "prompt d_model"]:
        inside = jnp.minimum(candidate, n_layers * n_heads * n_tokens - 1)
        layer, head, token = inside // (n_heads * n_tokens), inside // n_tokens % n_heads, inside % n_tokens
        by_head = einsum("bh,bhd->bd", observed.v[layer, prompt, token, head], W_O[layer, head])
        by_head = by_head * parts.pattern[layer, prompt, head, token][:, None]
        other = parts.written[prompt, jnp.maximum(candidate - n_layers * n_heads * n_tokens, 0)]
        return jnp.where((candidate == inside)[:, None], by_head, other)

    def goes_on(state: tuple[Array, ...]) -> Array:
        return jnp.any(state[2])

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        place, read, going, count = state
        y = centre(written(order[:, place])) / observed.final_scale[:, None]
        read = jnp.where(going[:, None], read - gain * y, read)
        count = count + going.astype(count.dtype)
        fallen = whole - likelihood(read) >= FALL * (whole - none)
        following = jnp.take_along_axis(values, order[:, jnp.minimum(place + 1, order.shape[1] - 1)][:, None], -1)[:, 0]
        return place + 1, read, going & ~fallen & (following > 0) & (place + 1 < order.shape[1]), count

    first = jnp.take_along_axis(values, order[:, :1], -1)[:, 0]
    start = (
        jnp.int32(0),
        observed.final_read,
        (first > 0) & (whole > none) & (last >= 0),
        jnp.zeros(n_prompts, jnp.int32),
    )
    count = jax.lax.while_loop(goes_on, step, start)[3]
    return jnp.argsort(order, axis=-1).astype(jnp.int32) < count[:, None]
