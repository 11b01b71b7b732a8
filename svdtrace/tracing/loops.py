"""Loops within compiled programs: what needs much room is made a part at a time, and what is empty costs nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def head_by_head(
    load: Callable[[Array], Any],
    work: Callable[[Any, Any], Any],
    blocks: Any,
    head: Int[Array, " block"],
    filled: Bool[Array, " block"],
) -> Any:
    """Work on blocks one by one, those of a head after another; zeros where none is filled.

    A loop, so that what a block needs much room for (the terms of every writer and vector) stays in the cache; what a
    head needs (its cores) is taken out of all heads' once for its blocks, and what is empty costs nothing.

    Args:
        load: from a head to what its blocks need.
        work: from that and a block, arrays [1 …], to arrays [1 …].
        blocks: arrays [block …], filled ones first, those of a head together.
    """
    n = len(filled)

    def cut(block: Array) -> Any:
        return jax.tree.map(lambda array: jax.lax.dynamic_slice_in_dim(array, block, 1), blocks)

    def one_head(run: Array, found: Any) -> Any:
        loaded = load(head[first[run]])

        def step(block: Array, found: Any) -> Any:
            part = work(loaded, cut(block))
            return jax.tree.map(
                lambda whole, each: jax.lax.dynamic_update_slice_in_dim(whole, each, block, axis=0), found, part
            )

        return jax.lax.fori_loop(first[run], beyond[run], step, found)

    starts = filled & jnp.concatenate([jnp.ones(1, bool), head[1:] != head[:-1]])
    first = jnp.nonzero(starts, size=n, fill_value=n)[0]
    beyond = jnp.minimum(jnp.append(first[1:], n), jnp.sum(filled))
    shapes = jax.eval_shape(lambda: work(load(head[0]), cut(jnp.int32(0))))
    empty = jax.tree.map(lambda each: jnp.zeros((n, *each.shape[1:]), each.dtype), shapes)
    return jax.lax.fori_loop(0, jnp.sum(starts), one_head, empty)


class Plain:
    """A function for a loop whose shapes are asked for beforehand: it gives arrays alone, since shapes in their place
    would not pass the checks of our own pytrees.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._tree = function, jax.tree.structure(None)

    def __call__(self, *given: Any) -> list[Array]:
        """What comes of it, flattened."""
        leaves, self._tree = jax.tree.flatten(self._function(*given))
        return leaves

    def whole(self, leaves: list[Array]) -> Any:
        """The same put together, once it was called."""
        return self._tree.unflatten(leaves)


def in_turn(function: Callable[[Any], Any], given: Any, most: int, filled: Bool[Array, "block slot"]) -> Any:
    """What a function makes of blocks, at most so many at once, but at least one; zeros where none is filled.

    Args:
        given: arrays [block …], filled ones first.
    """
    # A power of two, which leaves no rest that would be a program of its own.
    at_once = math.gcd(len(filled), 1 << max(0, most.bit_length() - 1))
    count = jnp.sum(jnp.any(filled, axis=-1), dtype=jnp.int32)
    plain = Plain(lambda at: function(jax.tree.map(partial(_cut, at=at, size=at_once), given)))
    n_blocks = len(jax.tree.leaves(given)[0])
    shapes = jax.eval_shape(lambda: plain(jnp.int32(0)))
    empty = [jnp.zeros((n_blocks, *each.shape[1:]), each.dtype) for each in shapes]

    def step(turn: Array, found: list[Array]) -> list[Array]:
        at = turn * at_once
        return [
            jax.lax.dynamic_update_slice_in_dim(whole, part, at, axis=0)
            for whole, part in zip(found, plain(at), strict=True)
        ]

    return plain.whole(jax.lax.fori_loop(0, -(-count // at_once), step, empty))


def _cut(values: Array, at: Array, size: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(values, at, size)
