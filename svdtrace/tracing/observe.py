"""The forward pass that traces: one run of the model in the singular gauge, and all that tracing needs of it.

What is kept of every token is written into memory that an earlier batch's has left, where there is one: fresh memory
for it, page by page, would cost a few percent of the pass.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.blocks import attention_mask, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.forward import embed, final_read
from gpt2jax.numerics import centre, compute_dtype, einsum
from gpt2jax.params import Params
from gpt2jax.sites import Passage
from svdtrace.method.contributions import written_norms
from svdtrace.method.firings import MOST_MAXIMA, Candidates, eligible_pairs, find_candidates
from svdtrace.tracing.finite import finite_in_all, finite_layer

# Where a block gives what `Room` keeps of it.
SITES = {"q": "attn.hook_q", "k": "attn.hook_k", "z": "attn.hook_z", "mlp_out": "hook_mlp_out", "v": "attn.hook_v"}


@struct.dataclass
class Sizes:
    """|q̂| and |k̂|: what scores' bounds are made of, so that queries and keys need not come to the host."""

    q: Float[Array, "*layer prompt tok head"]
    k: Float[Array, "*layer prompt tok head"]


@struct.dataclass
class KeysWritten:
    """What was written at every key, as the source side of relative attention reads it: z by head, and ‖γ ⊙ (y C)‖ of
    MLPs, embed and pos with every reading layer's γ (folded: one for all), where they are writers.
    """

    z: Float[Array, "layer prompt head tok d_head"]
    norms: Float[Array, "component prompt gain tok"] | None

    def of_layer(self, seen: dict[str, Array], layer: Array, gains: Float[Array, "gain d_model"] | None) -> KeysWritten:
        """The same with what a layer wrote."""
        norms = self.norms
        if norms is not None:
            norms = _at_layer(norms, _component_norms(seen["hook_mlp_out"], gains), layer)
        return KeysWritten(_at_layer(self.z, jnp.swapaxes(seen["attn.hook_z"], 1, 2), layer), norms)

    def of_stem(
        self, embed: Array | None, pos: Array | None, gains: Float[Array, "gain d_model"] | None
    ) -> KeysWritten:
        """The same with embed and pos, the last components."""
        if self.norms is None or embed is None or pos is None:
            return self
        stem = jnp.stack([_component_norms(embed, gains), _component_norms(pos, gains)])
        return KeysWritten(self.z, self.norms.at[-2:].set(stem))


@struct.dataclass
class Observed:
    """What one pass over a batch leaves behind.

    `candidates` of all layers, none where a destination may have more than `MOST_MAXIMA` and none of several passes put
    together (`svdtrace.tracing.pairs` lists them anyhow), and `sizes`; `q`, `k` in the singular gauge and `z`, [layer
    prompt tok head d_head];
    `scale` s of ln1, [layer prompt tok]; for the bounds of contributions, where they are asked for, `read` ‖x̃‖ of what
    ln1 gives and `written` ‖γ ⊙ (y C)‖ of what each head wrote, with the γ of every reading layer (folded: one for
    all); `mlp_out` [layer prompt tok d_model], `embed`, `pos` [prompt tok d_model], kept for `writers = all` alone;
    `keys`, arranged where sources are read against their rivals (`svdtrace.tracing.relative_sides`); `v`, kept where
    writers are followed through what they attended (METHOD.md, section 14.5);
    `first_q`, `first_k` those of head 0.0, [prompt tok d_head];
    `final_read` what the unembedding reads at the last traced token, [prompt d_model], and `final_scale` s_f there,
    [prompt]; `finite`, see `svdtrace.tracing.finite`: the others have no candidates; `length` and `last` as given.
    """

    candidates: Candidates | None
    sizes: Sizes
    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    z: Float[Array, "layer prompt tok head d_head"]
    scale: Float[Array, "layer prompt tok"]
    read: Float[Array, "layer prompt tok"] | None
    written: Float[Array, "gain prompt tok layer head"] | None
    mlp_out: Float[Array, "layer prompt tok d_model"] | None
    embed: Float[Array, "prompt tok d_model"] | None
    pos: Float[Array, "prompt tok d_model"] | None
    first_q: Float[Array, "prompt tok d_head"]
    first_k: Float[Array, "prompt tok d_head"]
    final_read: Float[Array, "prompt d_model"]
    final_scale: Float[Array, " prompt"]
    finite: Bool[Array, " prompt"]
    length: Int[Array, " prompt"]
    last: Int[Array, " prompt"]
    v: Float[Array, "layer prompt tok head d_head"] | None = None
    keys: KeysWritten | None = None


@struct.dataclass
class Room:
    """Where a pass writes what it keeps of every token of every layer: fields of `Observed`."""

    q: Float[Array, "layer prompt tok head d_head"]
    k: Float[Array, "layer prompt tok head d_head"]
    z: Float[Array, "layer prompt tok head d_head"]
    written: Float[Array, "gain prompt tok layer head"] | None
    mlp_out: Float[Array, "layer prompt tok d_model"] | None
    v: Float[Array, "layer prompt tok head d_head"] | None = None
    keys: KeysWritten | None = None

    @classmethod
    def of(cls, observed: Observed) -> Room:
        """The room that a batch takes up, for the next one: once that is written, the first is gone."""
        return cls(**{each.name: getattr(observed, each.name) for each in fields(cls)})


@partial(
    jax.jit, static_argnames=("config", "count", "skip_first", "all_writers", "values", "keys"), donate_argnames="room"
)
def observe(
    config: GPT2Config,
    params: Params,
    tokens: Int[Array, "prompt tok"],
    length: Int[Array, " prompt"],
    last: Int[Array, " prompt"],
    room: Room | None = None,
    grams: Float[Array, "layer gain head d_head d_head"] | None = None,
    *,
    count: int,
    skip_first: bool,
    all_writers: bool,
    values: bool = False,
    keys: bool = False,
) -> Observed:
    """Run a batch through the model.

    Args:
        params: with queries and keys in the singular gauge (`svdtrace.method.decomposition.gauged`).
        room: of an earlier batch of the same shape and with the same writers, by default new.
        grams: `svdtrace.method.contributions.writing_grams`, for the bounds of contributions.
        count: candidates per destination, see `svdtrace.method.firings.candidates_kept`; above `MOST_MAXIMA` none are
            kept.
        values: whether v is kept; keys: whether what was written is arranged by keys.
    """
    n_tokens = tokens.shape[1]
    token = jnp.arange(n_tokens)[None]
    traced, allowed = token <= last[:, None], attention_mask(token < length[:, None])
    eligible = eligible_pairs(length, last, n_tokens, skip_first)
    stem = Passage({})
    resid = embed(params, tokens, jnp.broadcast_to(token, tokens.shape), stem)

    if room is None:
        dtype, n_gains = compute_dtype(params.blocks.W_Q), 0 if grams is None else grams.shape[1]
        room = new_room(config, dtype, tokens.shape, all_writers, n_gains, values, keys)

    look = partial(_seen, traced=traced, allowed=allowed, eligible=eligible, count=count, bounded=grams is not None)
    gains = None if params.blocks.ln1 is None else params.blocks.ln1.w
    write = partial(_written, grams, gains)
    resid, seen, room = run_blocks(config, params.blocks, resid, allowed, observe=look, keep=write, kept=room)
    read = final_read(config, params, resid, last, stem)
    final_scale = stem.seen["ln_final.hook_scale"][:, 0, 0]
    finite = finite_in_all(seen.pop("finite"), last, final_scale, read)
    embedded, placed = (stem.seen[site] if all_writers else None for site in ("hook_embed", "hook_pos_embed"))
    if room is not None and room.keys is not None:
        room = replace(room, keys=room.keys.of_stem(embedded, placed, gains))
    return Observed(
        **seen | {"candidates": _of_finite(seen["candidates"], finite)},
        **{each.name: getattr(room, each.name) for each in fields(Room)},
        embed=embedded,
        pos=placed,
        first_q=room.q[0, :, :, 0],
        first_k=room.k[0, :, :, 0],
        final_read=read,
        final_scale=final_scale,
        finite=finite,
        length=length,
        last=last,
    )


def _seen(
    seen: dict[str, Array],
    *,
    traced: Bool[Array, "prompt tok"],
    allowed: Bool[Array, "prompt 1 dest src"],
    eligible: Bool[Array, "prompt 1 dest src"],
    count: int,
    bounded: bool,
) -> dict[str, Any]:
    """What one layer's sites come to: fields of `Observed`, of that layer; `finite` of that layer alone.

    Args:
        bounded: whether contributions' bounds are asked for.
    """
    sizes = Sizes(q=_norm(seen["attn.hook_q"]), k=_norm(seen["attn.hook_k"]))
    attended = seen["attn.hook_pattern"], seen["attn.hook_attn_scores"]
    return {
        "candidates": find_candidates(*attended, eligible, count) if count <= MOST_MAXIMA else None,
        "sizes": sizes,
        "scale": seen["ln1.hook_scale"][..., 0],
        # Of [x, 1].
        "read": jnp.sqrt(jnp.square(_norm(seen["ln1.hook_normalized"])) + 1) if bounded else None,
        "finite": finite_layer(seen, traced, allowed, sizes.q, sizes.k),
    }


def _written(
    grams: Float[Array, "layer gain head d_head d_head"] | None,
    gains: Float[Array, "gain d_model"] | None,
    room: Room,
    seen: dict[str, Array],
    layer: Array,
) -> Room:
    """The room with what it keeps of one layer."""
    wanted = {name: site for name, site in SITES.items() if getattr(room, name) is not None}
    here: dict[str, Any] = {name: _at_layer(getattr(room, name), seen[site], layer) for name, site in wanted.items()}
    if room.keys is not None:
        here["keys"] = room.keys.of_layer(seen, layer, gains)
    if grams is not None and room.written is not None:
        own = jax.lax.dynamic_index_in_dim(grams, layer, keepdims=False)
        here["written"] = _at_layer(room.written, written_norms(seen["attn.hook_z"], own), layer, axis=3)
    return replace(room, **here)


def new_room(
    config: GPT2Config,
    dtype: jnp.dtype,
    shape: tuple[int, ...],
    all_writers: bool,
    n_gains: int = 0,
    values: bool = False,
    keys: bool = False,
) -> Room:
    """Room for a batch of a shape, [prompt tok].

    Args:
        n_gains: of the γ that bounds are asked for; 0 without bounds.
        keys: see `KeysWritten`.
    """
    n_layers, n_heads, (n_prompts, n_tokens) = config.n_layers, config.n_heads, shape
    by_head, by_key = (n_layers, *shape, n_heads, config.d_head), None
    if keys:
        norms = jnp.zeros((n_layers + 2, n_prompts, max(1, n_gains), n_tokens), dtype) if all_writers else None
        by_key = KeysWritten(jnp.zeros((n_layers, n_prompts, n_heads, n_tokens, config.d_head), dtype), norms)
    return Room(
        **{name: jnp.zeros(by_head, dtype) for name in ("q", "k", "z")},
        written=jnp.zeros((n_gains, *shape, n_layers, n_heads), dtype) if n_gains else None,
        mlp_out=jnp.zeros((n_layers, *shape, config.d_model), dtype) if all_writers else None,
        v=jnp.zeros(by_head, dtype) if values else None,
        keys=by_key,
    )


def _of_finite(candidates: Candidates | None, finite: Bool[Array, " prompt"]) -> Candidates | None:
    """The same without those of prompts that are not finite."""
    if candidates is None:
        return None
    kept = finite[None, :, None, None, None]
    return replace(
        candidates, pattern=jnp.where(kept, candidates.pattern, -1), score=jnp.where(kept, candidates.score, 0)
    )


def _at_layer(whole: Array, value: Array, layer: Array, axis: int = 0) -> Array:
    return jax.lax.dynamic_update_index_in_dim(whole, value, layer, axis=axis)


def _component_norms(
    values: Float[Array, "prompt tok d_model"], gains: Float[Array, "gain d_model"] | None
) -> Float[Array, "prompt gain tok"]:
    """‖γ ⊙ (y C)‖ with every reading layer's γ, one where folded."""
    square = jnp.square(centre(values))
    if gains is None:
        return jnp.sqrt(jnp.sum(square, axis=-1))[:, None]
    return jnp.sqrt(einsum("ptd,gd->pgt", square, jnp.square(gains.astype(values.dtype))))


def _norm(vectors: Float[Array, "*axes d_head"]) -> Float[Array, "*axes"]:
    return jnp.sqrt(jnp.sum(jnp.square(vectors), axis=-1))
