"""Named edges in a batch of prompts: where they stand, whether their readers fire, through which singular vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import attn_scale, masked_softmax
from gpt2jax.config import GPT2Config
from gpt2jax.numerics import einsum
from svdtrace.config import RELATIVE, TraceConfig
from svdtrace.interventions.clean import Clean
from svdtrace.method.firings import least_score, thresholds
from svdtrace.method.relative import path_weights
from svdtrace.method.slices import choose_slices
from svdtrace.prompts.edge_names import EdgeName, position
from svdtrace.tracing.batching import Batch

Firing = tuple[int, int, str, str]


@dataclass(frozen=True)
class Pairs:
    """The distinct firings that edges name, `(layer, head, dest, src)`, in a batch.

    `dest`, `src`: tokens, -1 where a prompt lacks an end; `exists`: both are tokens of the prompt and src ≤ dest;
    `fires`: METHOD.md, section 3, with a slice (a total of 0 has none, and so no edge); `members`: S where it fires,
    nothing elsewhere. `score`, `pattern`: NaN where there is no such pair.
    """

    names: tuple[Firing, ...]
    dest: Int[np.ndarray, "firing prompt"]
    src: Int[np.ndarray, "firing prompt"]
    exists: Bool[np.ndarray, "firing prompt"]
    fires: Bool[np.ndarray, "firing prompt"]
    members: Bool[np.ndarray, "firing prompt sv"]
    score: Float[np.ndarray, "firing prompt"]
    pattern: Float[np.ndarray, "firing prompt"]


def firing_of(edge: EdgeName) -> Firing:
    """The firing whose edge it is, by name."""
    return edge.layer, edge.head, edge.dest, edge.src


def find_pairs(
    edges: Sequence[EdgeName], batch: Batch, clean: Clean, within: np.ndarray, model: GPT2Config, config: TraceConfig
) -> Pairs:
    """Look up the firings that edges name.

    Args:
        within: which vectors are within the rank, [layer head sv].
        config: threshold, tau, score_min and skip_first say what a firing and a slice are; under the method `all` a
            slice is the whole rank, under `relative` that of section 14.
    """
    names = tuple(dict.fromkeys(firing_of(edge) for edge in edges))
    dest, src = (_tokens([str(name[end]) for name in names], batch) for end in (2, 3))
    exists = (src >= 0) & (src <= dest)
    # Padded to a power of two, so that few programs are compiled.
    padded = 1 << (len(names) - 1).bit_length()
    heads = np.zeros((2, padded), np.int32)
    heads[:, : len(names)] = np.asarray([name[:2] for name in names], np.int32).T
    ends = np.zeros((2, padded, len(batch.length)), np.int32)
    ends[:, : len(names)] = np.maximum([dest, src], 0)
    scales = np.asarray([attn_scale(model, layer, clean.q.dtype) for layer in range(model.n_layers)])
    tau = np.asarray(config.tau, clean.q.dtype)
    whole = np.asarray(config.method == "all")
    found = _look(
        clean.q,
        clean.k,
        within,
        scales,
        *heads,
        *ends,
        batch.length,
        tau,
        whole,
        relative=config.method == RELATIVE,
    )
    members, score, pattern = (np.asarray(each)[: len(names)] for each in found)
    least = thresholds(config, batch.tokens.shape[1]).astype(pattern.dtype)[np.maximum(dest, 0)]
    fires = exists & (dest <= batch.last) & (pattern >= least)
    fires &= (score >= least_score(config)) & (src >= int(config.skip_first)) & members.any(axis=-1)
    undefined = score.dtype.type(np.nan)
    return Pairs(
        names=names,
        dest=dest,
        src=src,
        exists=exists,
        fires=fires,
        members=members & fires[..., None],
        score=np.where(exists, score, undefined),
        pattern=np.where(exists, pattern, undefined),
    )


def _tokens(ends: Sequence[str], batch: Batch) -> Int[np.ndarray, "firing prompt"]:
    """Where ends stand in the prompts; -1 where nowhere."""
    found = np.full((len(ends), len(batch.length)), -1, np.int64)
    for row, end in zip(found, ends, strict=True):
        places = [position(end, prompt.roles) for prompt in batch.prompts]
        row[: len(places)] = [-1 if place is None else place for place in places]
    return np.where(found < batch.length, found, -1).astype(np.int32)


@partial(jax.jit, static_argnames="relative")
def _look(
    q: Float[Array, "layer prompt tok head d_head"],
    k: Float[Array, "layer prompt tok head d_head"],
    within: Bool[Array, "layer head sv"],
    attn_scales: Float[Array, " layer"],
    layer: Int[Array, " firing"],
    head: Int[Array, " firing"],
    dest: Int[Array, "firing prompt"],
    src: Int[Array, "firing prompt"],
    length: Int[Array, " prompt"],
    tau: Float[Array, ""],
    whole: Bool[Array, ""],
    *,
    relative: bool,
) -> tuple[Bool[Array, "firing prompt sv"], Float[Array, "firing prompt"], Float[Array, "firing prompt"]]:
    """Members of S, score and pattern at pairs of tokens, one named firing after another."""
    prompt = jnp.arange(q.shape[1])
    source = jnp.arange(q.shape[2])[None]

    def one(each: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array]:
        layer, head, dest, src = each
        query, keys = q[layer, prompt, dest, head], k[layer, :, :, head]
        scores = einsum("bh,bjh->bj", query, keys) * attn_scales[layer]
        allowed = (source <= dest[:, None]) & (source < length[:, None])
        patterns = masked_softmax(jnp.where(allowed, scores, -jnp.inf))
        key = keys[prompt, src]
        if relative:
            weights = path_weights(scores, src, allowed)
            beyond = jnp.where(allowed[..., None], keys - key[:, None], 0)
            products = query * einsum("bj,bjh->bh", weights, beyond)
        else:
            products = query * key
        # Whether a slice is near a tie is a trace's business.
        slices = choose_slices(products, jnp.zeros_like(products), tau)
        members = jnp.where(whole, within[layer, head][None], slices.members)
        return members, scores[prompt, src], patterns[prompt, src]

    return jax.lax.map(one, (layer, head, dest, src))
