"""|S| at pairs of tokens, fired or not, and what τ does to it (METHOD.md, sections 4 and 9). Numerics."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from svdtrace.method.cuts import prefix_beyond, running_sums
from svdtrace.method.relative import row_of

# Products held at once while pairs that do not fire are counted: they stay in a processor's cache.
BLOCK_VALUES = 2**18


@struct.dataclass
class SlicesAtTaus:
    """Slices of firings, for every τ asked for.

    `products` p_k = q̂_k k̂_k (P_k under `relative`) and `total` their sum; `members` marks S for each τ; `kept` =
    Σ_{k∈S} p_k / total, 0 at total 0.
    """

    products: Float[Array, "firing sv"]
    total: Float[Array, " firing"]
    members: Bool[Array, "tau firing sv"]
    kept: Float[Array, "tau firing"]


def relative_products(
    q: Float[Array, "*pair sv"],
    keys: Float[Array, "*pair tok sv"],
    dest: Int[Array, "*pair"],
    src: Int[Array, "*pair"],
    attn_scale: Float[Array, "*pair"],
) -> Float[Array, "*pair sv"]:
    """P_k = q̂_k κ_k of any pairs, from every key of their prompts (section 14.2)."""
    scaled = attn_scale[..., None] * q
    return scaled * row_of(scaled, keys, dest, src, jnp.ones((), q.dtype)).kappa


@jax.jit
def slices_at_taus(
    q: Float[Array, "layer prompt tok head sv"],
    k: Float[Array, "layer prompt tok head sv"],
    firings: Int[Array, "firing 5"],
    taus: Float[Array, " tau"],
    attn_scale: Float[Array, " layer"] | None = None,
) -> SlicesAtTaus:
    """Slices of firings for several τ at once (section 4).

    Args:
        q, k: in the singular gauge.
        firings: (prompt, layer, head, dest, src) of each.
        taus: shares of the total to exceed.
        attn_scale: given for slices of P_k.
    """
    prompt, layer, head, dest, src = firings.T
    asked = q[layer, prompt, dest, head]
    if attn_scale is None:
        products = asked * k[layer, prompt, src, head]
    else:
        products = relative_products(asked, k[layer, prompt, :, head], dest, src, attn_scale[layer])
    sign = jnp.where(jnp.sum(products, axis=-1, keepdims=True) < 0, -1, 1).astype(products.dtype)
    oriented = products * sign
    sums = running_sums(oriented)
    total = sums.last()

    def at(tau: Array) -> tuple[Array, Array]:
        members = prefix_beyond(oriented, sums, tau * total) & (total != 0)[:, None]
        return members, jnp.sum(jnp.where(members, oriented, 0), axis=-1) / jnp.where(total != 0, total, 1)

    members, kept = jax.lax.map(at, taus)
    return SlicesAtTaus(products=products, total=total * sign[:, 0], members=members, kept=kept)


def slice_sizes(products: Float[Array, "*pair sv"], tau: Float[Array, ""]) -> Int[Array, "*pair"]:
    """|S| alone, without sorting: the cut is a value, found by halving the range of positive floats (section 4).

    As many sums over k as a float has bits, where comparing all pairs of products would take h of them; what comes out
    is the same as `svdtrace.method.slices.choose_slices` finds.

    Args:
        products: p_k of any pairs.
        tau: share of the total to exceed, 0 < τ ≤ 1.
    """
    positive, negative = (jnp.maximum(each, 0) for each in (products, -products))
    sums = jnp.sum(positive, axis=-1), jnp.sum(negative, axis=-1)
    turned = sums[0] < sums[1]
    mine = jnp.where(turned[..., None], negative, positive)
    against = jnp.where(turned, *sums)
    goal = tau * jnp.abs(sums[0] - sums[1])
    # Non-negative floats stand in the order of their bits.
    whole = jnp.int64 if products.dtype.itemsize == 8 else jnp.int32
    bits = jax.lax.bitcast_convert_type(mine, whole)
    n_bits = 8 * products.dtype.itemsize - 1

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        beyond = jnp.sum(jnp.where(bits >= middle[..., None], mine, 0), axis=-1) > goal
        return jnp.where(beyond, middle, low), jnp.where(beyond, high, middle)

    start = jnp.zeros(goal.shape, whole), jnp.max(bits, axis=-1) + 1
    cut, _ = jax.lax.fori_loop(0, n_bits, halve, start)
    # Where nothing stands against them and τ = 1, no sum exceeds the total: rounding must not say otherwise.
    cut = jnp.where((against == 0) & (tau == 1), 0, cut)
    above = bits > cut[..., None]
    size = jnp.sum(above, axis=-1, dtype=jnp.int32)
    at_cut = jnp.sum(bits == cut[..., None], axis=-1, dtype=jnp.int32)
    value = jax.lax.bitcast_convert_type(cut, mine.dtype)
    missing = goal - jnp.sum(jnp.where(above, mine, 0), axis=-1)
    # Equal products at the cut: as many of them as it takes.
    several = jnp.floor(missing / jnp.where(value > 0, value, 1)).astype(jnp.int32) + 1
    size = size + jnp.where(cut > 0, jnp.clip(several, 1, at_cut), 0)
    return jnp.where(sums[0] == sums[1], 0, size)


@partial(jax.jit, static_argnames=("block",))
def count_sizes(
    q: Float[Array, "layer prompt tok head sv"],
    k: Float[Array, "layer prompt tok head sv"],
    fired_src: Int[Array, "layer prompt head dest firing"],
    pairs: Int[Array, "pair 3"],
    tau: Float[Array, ""],
    attn_scale: Float[Array, " layer"] | None = None,
    *,
    block: int,
) -> Int[Array, "layer head size"]:
    """How often each |S| occurs at pairs where a head does not fire.

    Args:
        q, k: in the singular gauge.
        fired_src: the sources at which each destination's firings stand; -1 for none.
        pairs: (prompt, dest, src); a negative prompt counts for nothing.
        attn_scale: given for slices of P_k.
        block: pairs taken at a time, see `pairs_per_block`; divides their number.

    Returns:
        Counts of sizes 0 … h.
    """
    n_sv = q.shape[-1]
    sizes = jnp.arange(n_sv + 1)[None, None, None]

    def products_of(prompt: Array, dest: Array, src: Array) -> Array:
        asked = q[:, prompt, dest]
        if attn_scale is None:
            return asked * k[:, prompt, src]
        keys = jnp.moveaxis(k[:, prompt], 3, 2)
        dest, src = (jnp.broadcast_to(each[None, :, None], asked.shape[:-1]) for each in (dest, src))
        return relative_products(asked, keys, dest, src, jnp.broadcast_to(attn_scale[:, None, None], asked.shape[:-1]))

    def add(counts: Array, some: Array) -> tuple[Array, None]:
        prompt, dest, src = jnp.maximum(some, 0).T
        found = slice_sizes(products_of(prompt, dest, src), tau)
        fires = jnp.any(fired_src[:, prompt, :, dest] == src[:, None, None, None], axis=-1)
        counted = jnp.moveaxis(~fires, 0, 1) & (some[:, 0] >= 0)[None, :, None]
        hits = (found[..., None] == sizes) & counted[..., None]
        return counts + jnp.sum(hits, axis=1, dtype=jnp.int32), None

    empty = jnp.zeros((q.shape[0], q.shape[3], n_sv + 1), jnp.int32)
    counts, _ = jax.lax.scan(add, empty, pairs.reshape(-1, block, 3))
    return counts


def pairs_per_block(n_layers: int, n_heads: int, d_head: int, n_keys: int = 1) -> int:
    """How many pairs of tokens `count_sizes` takes at a time, all heads of each, `n_keys` keys of each read."""
    return max(1, BLOCK_VALUES // (n_layers * n_heads * d_head * n_keys))
