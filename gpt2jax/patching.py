"""Activation patching: what a metric becomes where one value after another comes from another run.

All patches of a site are one compiled program: those of a layer stand side by side, and start from the residual that
enters it, since nothing below it changes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from gpt2jax.blocks import attention_mask, block, layer_norm
from gpt2jax.config import GPT2Config
from gpt2jax.errors import InputError
from gpt2jax.forward import checked_inputs, embed, forward, unembed
from gpt2jax.numerics import compute_dtype
from gpt2jax.params import Model, Params
from gpt2jax.sites import BLOCK_SITES, STEM_SITES, Grouped, Hook, Passage, SiteName, has_arrays, parse

Metric = Callable[..., Array]
RESID = "hook_resid_pre"
MOST_BYTES = 2**28
"""Of the logits of patches that are run at once."""


def patch(
    model: Model,
    clean: Int[Array | np.ndarray, "prompt tok"],
    corrupt: Int[Array | np.ndarray, "corrupt_prompt corrupt_tok"],
    sites: str | Sequence[str],
    metric: Metric | tuple[Any, Any],
    *,
    by: Iterable[str] | None = None,
    mask: Bool[Array | np.ndarray, "prompt tok"] | None = None,
) -> Array:
    """Run `corrupt` with one value at a time taken from the run of `clean`, and measure each time.

    Args:
        clean, corrupt: token ids of one shape; the value at a prompt and token of the one run takes the place of the
            value there in the other.
        sites: an activation (`gpt2jax.sites`); `blocks.*.…` means every layer's, one after another. Or several.
        metric: from logits [prompt tok vocab] to an array; or `(function, arrays)`, which is called with both. It is
            compiled once per function, so give the same function again rather than a new one like it.
        by: axes of the value that are patched one index at a time, beside the layers: "head", "tok", "dest", "src".
            By default "head" for a single site that has heads, and for all else the whole value.
        mask: True at real tokens, of both runs.

    Returns:
        The metric of every patch, [*patch *metric]. Of one name patch is [layer], for `blocks.*.…` alone, then the axes
        of `by` in their order: `blocks.*.attn.hook_z` gives [layer head]. Of several it is [site], the layers of `*`
        counted one by one, before these axes.

    Raises:
        InputError: prompts of two shapes, an axis that a value lacks, no site, a metric that is no function.
        ActivationNameError: an unknown site.
        CheckpointError: the model holds only a part of its weights, or has no unembedding.

    Example:
        >>> def difference(logits, asked):
        ...     last = logits[:, -1]
        ...     answer, distractor = (jnp.take_along_axis(last, each[:, None], 1)[:, 0] for each in asked)
        ...     return jnp.mean(answer - distractor)
        >>> heads = patch(model, clean, corrupt, "blocks.*.attn.hook_z", (difference, (io, s)))  # doctest: +SKIP
        >>> heads.shape                                                                          # doctest: +SKIP
        (12, 12)
    """
    model.params.require_unembedding()
    function, arrays = _measured(metric)
    taken, real, positions = checked_inputs(model, clean, mask, None)
    tokens, _, _ = checked_inputs(model, corrupt, mask, None)
    if taken.shape != tokens.shape:
        raise InputError(f"clean has shape {taken.shape}, corrupt {tokens.shape}; give prompts of the same lengths")
    single = isinstance(sites, str)
    names = [sites] if isinstance(sites, str) else list(sites)
    places = [place for name in names for place in _places(name, model.config.n_layers)]
    if not places:
        raise InputError("no site is given; name an activation, for example blocks.*.attn.hook_z")
    axes = _axes(places, by, single)
    sources = forward(model, taken, mask=real, taps=dict.fromkeys(_tap(place) for place in places)).taps
    entering = forward(model, tokens, mask=real, taps=f"blocks.*.{RESID}").taps[f"blocks.*.{RESID}"]
    allowed = attention_mask(real)
    found = []
    for place in places:
        source = sources[_tap(place)]
        layer = place.layer if isinstance(place.layer, int) else 0
        resid = embed(model.params, tokens, positions, Passage({})) if place.site in _FIRST else entering[layer]
        parts = (tokens, positions, allowed, resid, source, jnp.asarray(layer, jnp.int32))
        found.append(_all_of(model, place.site, axes, function, arrays, parts))
    if single and "*" not in names[0]:
        return found[0]
    return jnp.stack(found)


_FIRST, _LAST = ("hook_embed", "hook_pos_embed"), ("ln_final.hook_scale", "ln_final.hook_normalized")


def _measured(metric: Any) -> tuple[Any, Any]:
    """The metric's function, and its arrays, `()` where it has none.

    Raises:
        InputError: it is no function.
    """
    if callable(metric):
        return metric, ()
    if has_arrays(metric):
        function, arrays = metric
        return function, arrays
    raise InputError(f"the metric is a {type(metric).__name__}; give a function of logits, or (function, arrays)")


def _places(name: str, n_layers: int) -> list[SiteName]:
    """The values that a name stands for, one for each layer."""
    found = parse(name, n_layers)
    return [SiteName(found.site, layer) for layer in range(n_layers)] if found.layer == "*" else [found]


def _tap(place: SiteName) -> str:
    return place.site if place.layer is None else f"blocks.{place.layer}.{place.site}"


def _axes(places: Sequence[SiteName], by: Iterable[str] | None, single: bool) -> tuple[str, ...]:
    """The axes that are patched index by index.

    Raises:
        InputError: a value lacks one.
    """
    has = [(STEM_SITES | BLOCK_SITES)[place.site].split() for place in places]
    if by is None:
        return ("head",) if single and "head" in has[0] else ()
    axes = (by,) if isinstance(by, str) else tuple(by)
    for place, own in zip(places, has, strict=True):
        lacking = [axis for axis in axes if axis not in own[1:]]
        if lacking:
            raise InputError(f'{_tap(place)} has no axis "{lacking[0]}"; its axes are {" ".join(own)}')
    return axes


def _all_of(
    model: Model, site: str, axes: tuple[str, ...], function: Metric, arrays: Any, parts: tuple[Array, ...]
) -> Array:
    """The metric of every patch of one value, [*axes *metric], as many patches at once as fit."""
    tokens, source = parts[0], parts[4]
    own = (STEM_SITES | BLOCK_SITES)[site].split()
    shape = tuple(source.shape[own.index(axis)] for axis in axes)
    index = np.asarray(list(itertools.product(*map(range, shape))), np.int32).reshape(math.prod(shape), len(axes))
    each = tokens.size * model.config.d_vocab * 4
    room = max(1, min(len(index), MOST_BYTES // each))
    # Evenly, and the last ones filled up by repetition, so that one program serves them all.
    n_calls = -(-len(index) // room)
    room = -(-len(index) // n_calls)
    filled = index[np.arange(n_calls * room) % len(index)].reshape(n_calls, room, len(axes))
    chosen = {"site": site, "axes": axes, "function": function}
    calls = [_patched(model.config, model.params, *parts, jnp.asarray(rows), arrays, **chosen) for rows in filled]
    found = jnp.concatenate(calls)[: len(index)]
    return found.reshape(*shape, *found.shape[1:])


@partial(jax.jit, static_argnames=("config", "site", "axes", "function"))
def _patched(
    config: GPT2Config,
    params: Params,
    tokens: Int[Array, "prompt tok"],
    positions: Int[Array, "prompt tok"],
    allowed: Bool[Array, "prompt 1 dest src"],
    resid: Array,
    source: Array,
    layer: Int[Array, ""],
    index: Int[Array, "patch axis"],
    arrays: Any,
    *,
    site: str,
    axes: tuple[str, ...],
    function: Metric,
) -> Array:
    """The metric of patches of one value, each of which takes `source` at its index.

    Args:
        resid: what enters the layer of the value, or the first one; layer: its number.
    """
    own = (STEM_SITES | BLOCK_SITES)[site].split()

    def at(layer: Array) -> Any:
        weights = jax.tree.map(lambda array: jax.lax.dynamic_index_in_dim(array, layer, keepdims=False), params.blocks)
        return jax.tree.map(lambda array: array.astype(compute_dtype(array)), weights)

    def one(index: Array) -> Array:
        hooks: Grouped = {site: [("*", _taking(source, own, axes, index))]}
        first, through = layer, resid
        if site in _FIRST:
            through = embed(params, tokens, positions, Passage(hooks))
        elif site in _LAST:
            first = jnp.full_like(layer, 0)
        else:
            through = block(config, at(layer), resid, allowed, Passage(hooks, layer=layer))
            first = layer + 1
        through = jax.lax.fori_loop(
            first,
            jnp.asarray(config.n_layers, layer.dtype),
            lambda m, r: block(config, at(m), r, allowed, Passage({}, layer=m)),
            through,
        )
        stem = Passage(hooks if site in _LAST else {})
        read = layer_norm(params.ln_final, through, config.layer_norm_epsilon, "ln_final", stem)
        logits = unembed(params, read)
        return jnp.asarray(function(logits, arrays) if arrays != () else function(logits))

    return jax.vmap(one)(index)


def _taking(source: Array, own: Sequence[str], axes: Sequence[str], index: Array) -> Hook:
    """The hook that takes `source` at one index of some axes, and leaves the value elsewhere."""

    def hook(value: Array) -> Array:
        inside = jnp.ones((1,) * value.ndim, bool)
        for place, axis in enumerate(axes):
            along = own.index(axis)
            one = jnp.arange(value.shape[along], dtype=index.dtype) == index[place]
            inside = inside & one.reshape([-1 if at == along else 1 for at in range(value.ndim)])
        return jnp.where(inside, source, value)

    return hook
