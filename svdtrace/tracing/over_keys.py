"""What firings read by relative attention, given to the code of the other methods (METHOD.md, section 14.2): κ in place
of the key, and on the source's side what was written at all keys, each weighed by what its score is worth.

All of it is linear in what was written: a contribution is `Σ_t N_t ρ_w[t]`, N one row of numbers a firing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.numerics import einsum
from svdtrace.method.contributions import Written
from svdtrace.method.relative import Row, is_key, row_of
from svdtrace.tracing.attribute import Blocks, Collected, collect
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.relative_sides import Groups, in_groups


@struct.dataclass
class OverKeys:
    """Firings' queries q̂ and κ, and of every key `a N_t / s_t`: N is M where a writer counts by all that it wrote at
    the keys, and `M_j (δ_tj − 1/(i+1))` where by what it wrote at j alone. `groups` of firings that share a prompt.
    """

    q: Float[Array, "block slot sv"]
    kappa: Float[Array, "block slot sv"]
    weights: Float[Array, "block slot tok"]
    groups: Groups

    def elsewhere(self, prompt: Int[Array, " prompt"]) -> OverKeys:
        """The same of what was written in other prompts, one for each."""
        return replace(self, groups=replace(self.groups, prompt=prompt[self.groups.prompt]))


def over_keys(
    observed: Observed,
    blocks: Blocks,
    filled: Bool[np.ndarray, "block slot"],
    layer: Int[Array, ""] | np.int32,
    attn_scale: Float[Array, ""],
    *,
    keys: str,
) -> OverKeys:
    """Read firings of one layer; with `collect_over_keys` it does what `collect` does for the other methods.

    Args:
        filled: which slots hold one.
        keys: `summed` or `own`, see `svdtrace.config.TraceConfig`.
    """
    q, kappa, weights = _rows(observed, blocks, jnp.asarray(layer), attn_scale, keys=keys)
    groups = in_groups(np.where(filled, 0, -1), np.asarray(blocks.prompt))
    return OverKeys(q=q, kappa=kappa, weights=weights, groups=groups)


@partial(jax.jit, static_argnames=("keys",))
def _rows(
    observed: Observed, blocks: Blocks, layer: Int[Array, ""], attn_scale: Float[Array, ""], *, keys: str
) -> tuple[Array, Array, Array]:
    prompt, dest, src, head = (jnp.asarray(each) for each in (blocks.prompt, blocks.dest, blocks.src, blocks.head))
    read = observed.q, observed.k, observed.scale
    q, k, scale = (jax.lax.dynamic_index_in_dim(each, layer, keepdims=False) for each in read)
    q = q[prompt, dest, head[:, None]]
    row = row_of(q, k[prompt, :, head[:, None]], dest, src, attn_scale)
    return q, row.kappa, attn_scale * _values_of(row, keys) / scale[prompt]


def _values_of(row: Row, keys: str) -> Float[Array, "*firing tok"]:
    """N_t (section 14.2)."""
    if keys == "summed":
        return row.weights
    at_src = is_key(row.src, row.weights.shape[-1])
    own = jnp.sum(jnp.where(at_src, row.weights, 0), axis=-1, keepdims=True)
    count = jnp.sum(row.allowed, axis=-1, keepdims=True, dtype=own.dtype)
    return jnp.where(row.allowed, own * (at_src.astype(own.dtype) - 1 / count), 0)


@partial(jax.jit, static_argnames=("n_layers", "sides"))
def collect_over_keys(
    observed: Observed,
    blocks: Blocks,
    read: OverKeys,
    layer: Int[Array, ""],
    *,
    n_layers: int,
    sides: tuple[str, ...],
) -> Collected:
    """What `collect` gives, so that `exact`'s coefficients and terms give relative attention's contributions.

    Args:
        n_layers: writers of so many layers are gathered; those from `layer` on are masked later.
    """
    at_own = collect(observed, blocks, layer, n_layers=n_layers, sides=tuple(each for each in sides if each == "dest"))
    written = [*at_own.written, *([_summed(observed, read, n_layers)] if "src" in sides else [])]
    return Collected(q=read.q, k=read.kappa, read=(), written=tuple(written))


def _summed(observed: Observed, read: OverKeys, n_layers: int) -> Written:
    """What was written at all keys, weighed and summed: one product a prompt and group of its firings."""
    n_blocks, n_slots, n_tokens = read.weights.shape
    weights, groups = read.weights.reshape(-1, n_tokens), read.groups
    heads, others = observed.z[:n_layers], None
    if observed.mlp_out is not None and observed.embed is not None and observed.pos is not None:
        others = jnp.concatenate([observed.mlp_out[:n_layers], jnp.stack([observed.embed, observed.pos])])

    def of(values: Array, prompt: Array) -> Array:
        return jax.lax.dynamic_index_in_dim(values, prompt, axis=1, keepdims=False)

    def step(group: Array, found: list[Array]) -> list[Array]:
        slot, prompt = groups.slot[group], groups.prompt[group]
        its = weights[jnp.maximum(slot, 0)]
        sums = [einsum("ft,mtah->fmah", its, of(heads, prompt))]
        if others is not None:
            sums.append(einsum("ft,ctd->fcd", its, of(others, prompt)))
        # What is beyond the end is not written.
        at = jnp.where(slot < 0, len(weights), slot)
        return [whole.at[at].set(each, mode="drop") for whole, each in zip(found, sums, strict=True)]

    shapes = [(n_layers, *heads.shape[3:]), *([] if others is None else [(len(others), others.shape[-1])])]
    empty = [jnp.zeros((len(weights), *shape), weights.dtype) for shape in shapes]
    n_groups = jnp.sum(jnp.any(jnp.asarray(groups.slot) >= 0, axis=-1), dtype=jnp.int32)
    found = jax.lax.fori_loop(0, n_groups, step, empty)
    by_block = [each.reshape(n_blocks, n_slots, *each.shape[1:]) for each in found]
    return Written(
        z=jnp.moveaxis(by_block[0], 1, 3),
        norm=None,
        scale=jnp.ones((n_blocks, n_slots), weights.dtype),
        others=None if others is None else jnp.swapaxes(by_block[1], 1, 2),
        of_biases=jnp.sum(read.weights, axis=-1),
    )
