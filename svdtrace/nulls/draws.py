"""What the nulls draw (METHOD.md, sections 12 and 13): each draw depends on the seed, the null's number and what it is
drawn for, never on how prompts were batched.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt

KINDS = ("slices", "bases", "prompts")


def kind_key(seed: int, kind: str) -> Key[Array, ""]:
    """The key from which one kind of null is drawn."""
    return jax.random.fold_in(jax.random.key(seed), KINDS.index(kind))


def random_slices(
    key: Key[Array, ""],
    name: UInt[Array, "*firing 2"],
    size: Int[Array, "*firing"],
    rank: Bool[Array, "*firing sv"],
) -> Bool[Array, "*firing sv"]:
    """For every firing `size` indices drawn from within the rank, all sets equally likely.

    One vector after another is taken with probability (still to be taken) / (still there) (Knuth, The Art of Computer
    Programming, volume 2, 3.4.2, algorithm S).

    Args:
        key: one null's.
        name: what tells a firing from all others; its draw depends on the key and on this alone.
    """

    def one(name: Array) -> Array:
        own = jax.random.fold_in(jax.random.fold_in(key, name[0]), name[1])
        return jax.random.uniform(own, rank.shape[-1:], jnp.float32)

    lot = jax.vmap(one)(name.reshape(-1, 2)).reshape(rank.shape)
    there = jnp.cumsum(rank[..., ::-1], axis=-1, dtype=jnp.int32)[..., ::-1].astype(jnp.float32)

    def step(wanted: Array, vector: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        lot, there, within = vector
        take = within & (lot * there < wanted)
        return wanted - take.astype(jnp.float32), take

    vectors = jax.tree.map(lambda each: jnp.moveaxis(each, -1, 0), (lot, there, rank))
    return jnp.moveaxis(jax.lax.scan(step, size.astype(jnp.float32), vectors)[1], 0, -1)


@partial(jax.jit, static_argnames="dtype")
def random_rotations(
    key: Key[Array, ""], null: Int[Array, " null"], group: Int[Array, "head sv"], dtype: jnp.dtype
) -> Float[Array, "null head sv sv"]:
    """Haar-random orthogonal matrices R, one a head and null, that mix k and m only where they share a group.

    R is the Q of a Gaussian matrix whose R factor has a positive diagonal (Mezzadri 2007). Groups stand together, so
    that the Gaussian matrix, and with it Q, falls into blocks. One batched `qr` in a program of its own: see METHOD.md,
    measured hazards.

    Args:
        key: of one layer.
        null: numbers of the nulls; a negative one stands for what was observed, R = identity.
        group: labels, equal ones next to each other.
    """
    together = group[:, :, None] == group[:, None, :]
    keys = jax.vmap(lambda each: jax.random.fold_in(key, each))(jnp.maximum(null, 0))
    gaussian = jax.vmap(lambda each: jax.random.normal(each, together.shape, dtype))(keys)
    together = together[None]
    Q, R = jnp.linalg.qr(jnp.where(together, gaussian, 0))
    sign = jnp.where(jnp.diagonal(R, axis1=-2, axis2=-1) < 0, -1, 1).astype(dtype)
    identity = jnp.eye(group.shape[-1], dtype=dtype)[None, None]
    return jnp.where((null >= 0)[:, None, None, None], jnp.where(together, Q * sign[..., None, :], 0), identity)


def rank_groups(rank: Bool[Array, "head sv"]) -> Int[Array, "head sv"]:
    """Groups for a rotation of the whole rank: all within it together, each beyond it alone."""
    return jnp.where(rank, 0, jnp.arange(1, rank.shape[-1] + 1)[None])


def close_groups(S: Float[Array, "*head sv"], within: float) -> Int[Array, "*head sv"]:
    """Groups of nearly equal singular values: neighbours within `within` of each other, relatively, share a group."""
    apart = S[..., :-1] - S[..., 1:] > within * S[..., :-1]
    first = jnp.zeros((*S.shape[:-1], 1), jnp.int32)
    return jnp.concatenate([first, jnp.cumsum(apart, axis=-1, dtype=jnp.int32)], axis=-1)


def firsts(group: Int[Array, "head sv"], dtype: jnp.dtype) -> Float[Array, "head sv sv"]:
    """1 where k is the first of the group that m belongs to, [head k m]: sums over groups as a product."""
    together = group[:, :, None] == group[:, None, :]
    opens = jnp.concatenate([jnp.ones_like(group[:, :1], bool), group[:, 1:] != group[:, :-1]], axis=-1)
    return (together & opens[:, :, None]).astype(dtype)


def partners(seed: int, null: int, length: Int[np.ndarray, " prompt"]) -> Int[np.ndarray, " prompt"]:
    """For every prompt another one of the same length, all such exchanges equally likely; itself where none is.

    Args:
        null: the null's number; a negative one stands for what was observed, every prompt its own partner.
        length: of each prompt; 0 for what is no prompt.
    """
    chosen = np.arange(len(length))
    if null < 0:
        return chosen
    for each in np.unique(length[length > 0]):
        places = np.flatnonzero(length == each)
        rng = np.random.default_rng([seed, null, int(each)])
        if len(places) > 1:
            chosen[places] = places[_derangement(rng, len(places))]
    return chosen


def distinct_partners(
    partner: Int[np.ndarray, "null prompt"],
) -> tuple[Int[np.ndarray, "choice prompt"], Int[np.ndarray, "null prompt"]]:
    """Each prompt's partners without repeats, and which of them a null gives it: of some dozen prompts thousands of
    nulls make some dozen pairs a prompt.

    Rows of prompts that have fewer partners than others repeat one.
    """
    found = [np.unique(column, return_inverse=True) for column in partner.T]
    choice = np.tile(partner[0], (max(len(each) for each, _ in found), 1))
    for prompt, (each, _) in enumerate(found):
        choice[: len(each), prompt] = each
    return choice, np.stack([which for _, which in found], axis=-1)


def _derangement(rng: np.random.Generator, n: int) -> np.ndarray:
    """A permutation that leaves nothing in its place: drawn until one does, e times on average."""
    while True:
        drawn = rng.permutation(n)
        if not np.any(drawn == np.arange(n)):
            return drawn
