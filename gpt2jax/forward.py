"""The forward pass: tokens to logits, with taps and hooks.

Pure: nothing is registered anywhere, so nothing leaks; jit, vmap and grad pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from gpt2jax.activations import activation
from gpt2jax.blocks import Resid, attention_mask, layer_norm, run_blocks
from gpt2jax.config import GPT2Config
from gpt2jax.errors import CheckpointError, InputError
from gpt2jax.notebook import table
from gpt2jax.numerics import aligned, compute_dtype, einsum
from gpt2jax.params import Model, Params
from gpt2jax.sites import Grouped, Hook, HookWithArrays, Passage, SiteName, group_hooks, group_taps, has_arrays

LIKELIEST, PROMPTS = 5, 8
"""What an output shows of itself in a notebook."""


@struct.dataclass
class Output:
    """What a forward pass gives.

    `logits` [prompt tok vocab], `None` of a model without an unembedding (`Params.has_unembedding`); `taps`: the values
    asked for, under the names they were asked by, `*` stacked in front.
    """

    logits: Float[Array, "prompt tok vocab"] | None
    taps: dict[str, Array]

    def __repr__(self) -> str:
        named = [("logits", self.logits), *self.taps.items()]
        return f"Output({', '.join(f'{name} {_shape(each)}' for name, each in named)})"

    def _repr_html_(self) -> str:
        rows = [(name, _shape(each)) for name, each in (("logits", self.logits), *self.taps.items())]
        shapes = table(("array", "shape"), rows)
        return shapes if self.logits is None else f"{shapes}{_likeliest(self.logits)}"


def _shape(values: Array | None) -> str:
    return "none" if values is None else f"{values.dtype} {list(values.shape)}"


def _likeliest(logits: Float[Array, "prompt tok vocab"]) -> str:
    """The likeliest token ids at the last position of the first prompts."""
    last = logits[:PROMPTS, -1].astype(jnp.float32)
    chance, token = (
        np.asarray(each) for each in jax.lax.top_k(jax.nn.softmax(last, axis=-1), min(LIKELIEST, last.shape[-1]))
    )
    rows = [
        (prompt, ", ".join(f"{each} ({share:.1%})" for each, share in zip(*both, strict=True)))
        for prompt, both in enumerate(zip(token.tolist(), chance.tolist(), strict=True))
    ]
    title = "Likeliest token ids at the last position"
    return table(("prompt", "tokens"), rows, title, more=len(logits) - len(rows))


def forward(
    model: Model,
    tokens: Int[Array | np.ndarray, "prompt tok"],
    *,
    mask: Bool[Array | np.ndarray, "prompt tok"] | None = None,
    positions: Int[Array | np.ndarray, "prompt tok"] | None = None,
    taps: str | Iterable[str] = (),
    hooks: Mapping[str, Hook | HookWithArrays] | None = None,
) -> Output:
    """Run the model.

    Args:
        tokens: token ids.
        mask: True at real tokens; padding is attended to by nothing. Default: all real.
        positions: indices into W_pos. Default: 0, 1, 2, …
        taps: name or names of values to keep, e.g. `blocks.*.attn.hook_pattern` (`gpt2jax.sites` lists them).
        hooks: pure functions by name; each gets a value and returns what takes its place. Or a function with arrays,
            `(function, arrays)`: it gets the value and the arrays, any pytree.

    Returns:
        Logits and tapped values.

    Raises:
        InputError: tokens, mask or positions that the model cannot read.
        ActivationNameError: an unknown tap or hook name.
        CheckpointError: the model holds only a part of its weights.
        ConfigError: an activation function that is not known.

    Without hooks the pass is compiled once per shape; so it is if all hooks come with their arrays, once per function.
    With other hooks it is traced anew at each call, since a function may close over anything: wrap a call that is
    repeated in `jax.jit`.

        >>> def put(value, other):
        ...     return value.at[:, :, 6].set(other)
        >>> forward(model, tokens, hooks={"blocks.9.attn.hook_z": (put, z[:, :, 6])})    # doctest: +SKIP
    """
    tokens, mask, positions = checked_inputs(model, tokens, mask, positions)
    names = (taps,) if isinstance(taps, str) else tuple(taps)
    wanted = group_taps(names, model.config.n_layers)
    if any(name.site == "ln_final.hook_normalized" for name in wanted):
        model.params.require_unembedding()
    grouped = group_hooks(hooks, model.config.n_layers)
    if hooks and all(map(has_arrays, hooks.values())):
        functions, arrays = zip(*hooks.values(), strict=True)
        named = tuple(zip(hooks, functions, strict=True))
        logits, values = _hooked(model.config, model.params, tokens, mask, positions, wanted, named, arrays)
    elif hooks:
        logits, values = _forward(model.config, model.params, tokens, mask, positions, wanted, grouped)
    else:
        logits, values = _compiled(model.config, model.params, tokens, mask, positions, wanted)
    by_name = dict(zip(wanted, values, strict=True))
    return Output(logits, {name: by_name[group_taps([name], model.config.n_layers)[0]] for name in names})


def embed(params: Params, tokens: Array, positions: Array, site: Passage) -> Resid:
    """The first residual: `W_E[token] + W_pos[position]`."""
    dtype = compute_dtype(params.W_E)
    token_part = site("hook_embed", params.W_E[tokens].astype(dtype))
    return token_part + site("hook_pos_embed", params.W_pos[positions].astype(dtype))


def unembed(params: Params, read: Float[Array, "*axes d_model"]) -> Float[Array, "*axes vocab"]:
    """Logits of what the final LayerNorm gives.

    Raises:
        CheckpointError: the model has no unembedding.
    """
    params.require_unembedding()
    if params.W_U is None:
        logits = einsum("...d,vd->...v", read, params.W_E.astype(read.dtype))
    else:
        logits = einsum("...d,dv->...v", read, params.W_U.astype(read.dtype))
    return logits if params.b_U is None else logits + aligned(params.b_U.astype(logits.dtype), logits)


def final_read(
    config: GPT2Config, params: Params, resid: Resid, token: Int[Array, " prompt"], site: Passage
) -> Float[Array, "prompt d_model"]:
    """What the unembedding reads of the last residual at one token of every prompt; a negative one is taken as 0."""
    at_token = jnp.take_along_axis(resid, jnp.maximum(token, 0)[:, None, None], axis=1)
    return layer_norm(params.ln_final, at_token, config.layer_norm_epsilon, "ln_final", site)[:, 0]


def checked_inputs(
    model: Model, tokens: Array | np.ndarray, mask: Array | np.ndarray | None, positions: Array | np.ndarray | None
) -> tuple[Array, ...]:
    """Tokens, mask and positions as arrays; what is concrete is checked, what is traced cannot be.

    Raises:
        InputError, CheckpointError: see `forward`.
    """
    config, params = model.config, model.params
    if params.W_E is None or params.blocks.W_in is None or params.blocks.W_out is None:
        raise CheckpointError(
            "a forward pass needs all weights, but this model holds a part of them; load the whole model"
        )
    activation(config.activation)
    tokens = checked_ids(tokens, config.d_vocab, "token id", "use the model's own tokenizer")
    if tokens.ndim != 2 or 0 in tokens.shape:
        raise InputError(f"tokens have shape {tokens.shape}; give a non-empty array [prompt, tok]")
    if positions is None:
        if tokens.shape[1] > config.n_ctx:
            raise InputError(
                f"the prompts have {tokens.shape[1]} tokens, but the model reads at most {config.n_ctx}; shorten them"
            )
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    positions = checked_ids(positions, config.n_ctx, "position", "count from 0")
    mask = jnp.ones(tokens.shape, bool) if mask is None else jnp.asarray(mask, bool)
    for name, array in (("mask", mask), ("positions", positions)):
        if array.shape != tokens.shape:
            raise InputError(f"{name} has shape {array.shape}, tokens {tokens.shape}; give one value per token")
    return tokens, mask, positions


def checked_ids(values: Array | np.ndarray, stop: int, name: str, remedy: str) -> Array:
    """Whole numbers from 0 to below `stop`, as an array; what is traced cannot be checked.

    Raises:
        InputError: they are none.
    """
    if not isinstance(values, Tracer):
        try:
            host = np.asarray(values)
        except ValueError as failure:
            raise InputError(f"{name}s are no array ({failure}); pad them to one length and give a mask") from failure
        if host.size and not np.issubdtype(host.dtype, np.integer):
            raise InputError(f"{name}s have dtype {host.dtype}; give integers")
        bad = host[(host < 0) | (host >= stop)]
        if bad.size:
            raise InputError(f"{name} {bad.flat[0]} is outside 0 to {stop - 1}; {remedy}")
        values = host.astype(np.int32)
    return jnp.asarray(values)


def _forward(
    config: GPT2Config,
    params: Params,
    tokens: Array,
    mask: Array,
    positions: Array,
    wanted: tuple[SiteName, ...],
    grouped: Grouped | None = None,
) -> tuple[Array | None, list[Array]]:
    grouped = grouped or {}
    stem = Passage(grouped)
    resid = embed(params, tokens, positions, stem)
    everywhere = [name.site for name in wanted if name.layer == "*"]
    somewhere = [name for name in wanted if isinstance(name.layer, int)]
    run = partial(
        run_blocks,
        config,
        params.blocks,
        resid,
        attention_mask(mask),
        hooks=grouped,
        wanted=frozenset(name.site for name in wanted),
    )
    resid, stacked, single = run(
        observe=lambda seen: [seen[site] for site in everywhere],
        keep=lambda kept, seen, layer: [
            jnp.where(layer == name.layer, seen[name.site], value) for name, value in zip(somewhere, kept, strict=True)
        ],
        kept=_empty(run, somewhere),
    )
    read = layer_norm(params.ln_final, resid, config.layer_norm_epsilon, "ln_final", stem)
    found = dict(zip([SiteName(site, "*") for site in everywhere], stacked, strict=True))
    found |= dict(zip(somewhere, single, strict=True))
    found |= {name: stem.seen[name.site] for name in wanted if name.layer is None}
    logits = unembed(params, read) if params.has_unembedding else None
    return logits, [found[name] for name in wanted]


def _empty(run: partial, names: list[SiteName]) -> list[Array]:
    """Zeros of the shapes that the named values will have, so that a single layer's value can be carried along."""
    if not names:
        return []
    shapes = jax.eval_shape(lambda: run(observe=lambda seen: [seen[name.site] for name in names])[1])
    return [jnp.zeros(shape.shape[1:], shape.dtype) for shape in shapes]


_compiled = jax.jit(_forward, static_argnames=("config", "wanted"))


@partial(jax.jit, static_argnames=("config", "wanted", "named"))
def _hooked(
    config: GPT2Config,
    params: Params,
    tokens: Array,
    mask: Array,
    positions: Array,
    wanted: tuple[SiteName, ...],
    named: tuple[tuple[str, Callable[[Array, Any], Array]], ...],
    arrays: tuple[Any, ...],
) -> tuple[Array | None, list[Array]]:
    """`_forward`, compiled for the functions of its hooks; their arrays are arguments."""
    hooks = {name: (function, given) for (name, function), given in zip(named, arrays, strict=True)}
    return _forward(config, params, tokens, mask, positions, wanted, group_hooks(hooks, config.n_layers))
