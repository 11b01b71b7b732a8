"""Every value of a forward pass that can be tapped or hooked: TransformerLens' names, with their axes.

A name with a layer number (`blocks.9.attn.hook_z`) means that layer; with `*` (`blocks.*.attn.hook_z`) every layer.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gpt2jax.errors import ActivationNameError, InputError

STEM_SITES: dict[str, str] = {
    "hook_embed": "prompt tok d_model",
    "hook_pos_embed": "prompt tok d_model",
    "ln_final.hook_scale": "prompt tok 1",
    "ln_final.hook_normalized": "prompt tok d_model",
}

BLOCK_SITES: dict[str, str] = {
    "hook_resid_pre": "prompt tok d_model",
    "ln1.hook_scale": "prompt tok 1",
    "ln1.hook_normalized": "prompt tok d_model",
    "attn.hook_q": "prompt tok head d_head",
    "attn.hook_k": "prompt tok head d_head",
    "attn.hook_v": "prompt tok head d_head",
    "attn.hook_attn_scores": "prompt head dest src",
    "attn.hook_pattern": "prompt head dest src",
    "attn.hook_z": "prompt tok head d_head",
    "attn.hook_result": "prompt tok head d_model",
    "hook_attn_out": "prompt tok d_model",
    "hook_resid_mid": "prompt tok d_model",
    "ln2.hook_scale": "prompt tok 1",
    "ln2.hook_normalized": "prompt tok d_model",
    "mlp.hook_pre": "prompt tok d_mlp",
    "mlp.hook_post": "prompt tok d_mlp",
    "hook_mlp_out": "prompt tok d_model",
    "hook_resid_post": "prompt tok d_model",
}

Hook = Callable[[Array], Array]
HookWithArrays = tuple[Callable[[Array, Any], Array], Any]
"""A function of a value and of arrays, and these arrays: any pytree."""
Grouped = Mapping[str, list[tuple[int | str | None, Hook]]]
"""Hooks by site, each with the layer it is for."""


@dataclass(frozen=True)
class SiteName:
    """A parsed name: `layer` is an index, `"*"` for all layers, or `None` outside the blocks."""

    site: str
    layer: int | str | None


def parse(name: str, n_layers: int) -> SiteName:
    """Read a tap or hook name.

    Raises:
        ActivationNameError: no activation bears the name; the message lists near ones.
    """
    if not isinstance(name, str):
        raise ActivationNameError(f"{name!r} is a {type(name).__name__}; name an activation by its text")
    if name in STEM_SITES:
        return SiteName(name, None)
    match = re.fullmatch(r"blocks\.(\*|\d{1,9})\.(.+)", name)
    if match and match[2] in BLOCK_SITES:
        if match[1] == "*":
            return SiteName(match[2], "*")
        if int(match[1]) < n_layers:
            return SiteName(match[2], int(match[1]))
        raise ActivationNameError(f'"{name}": the model has layers 0 to {n_layers - 1}; name one of these, or "*"')
    known = [*STEM_SITES, *(f"blocks.{match[1] if match else '*'}.{site}" for site in BLOCK_SITES)]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.3) or known
    raise ActivationNameError(f'no activation is named "{name}"; near names: {", ".join(near)}')


def group_hooks(
    hooks: Mapping[str, Hook | HookWithArrays] | None, n_layers: int
) -> dict[str, list[tuple[int | str | None, Hook]]]:
    """Hooks by site, in the order given, each with the layer it is for.

    Raises:
        InputError: no dict, or something in it that is no function, nor one with its arrays.
        ActivationNameError: a name that no activation bears.
    """
    grouped: dict[str, list[tuple[int | str | None, Hook]]] = {}
    if hooks is not None and not isinstance(hooks, Mapping):
        raise InputError(f"hooks are a {type(hooks).__name__}; give a dict from names to functions")
    for name, hook in (hooks or {}).items():
        if not callable(hook) and not has_arrays(hook):
            raise InputError(
                f'the hook on "{name}" is a {type(hook).__name__}; give a function of the value, or (function, arrays)'
            )
        parsed = parse(name, n_layers)
        grouped.setdefault(parsed.site, []).append((parsed.layer, hook if callable(hook) else _given(*hook)))
    return grouped


def has_arrays(hook: object) -> bool:
    """Whether a hook is a function with the arrays that it takes beside the value."""
    return isinstance(hook, tuple) and len(hook) == 2 and callable(hook[0])


def _given(function: Callable[[Array, Any], Array], arrays: Any) -> Hook:
    return lambda value: function(value, arrays)


def group_taps(taps: Iterable[str], n_layers: int) -> tuple[SiteName, ...]:
    """Taps, parsed, without repetition."""
    return tuple(dict.fromkeys(parse(name, n_layers) for name in taps))


@dataclass
class Passage:
    """One pass through named sites: each value is edited by its hooks and remembered under its name.

    Lives only while a function is traced; what nobody asks of `seen` afterwards is never computed.
    """

    hooks: Grouped
    wanted: frozenset[str] = frozenset()
    layer: Array | int | None = None
    seen: dict[str, Array] = field(default_factory=dict)

    def __call__(self, site: str, value: Array) -> Array:
        """Let a value pass under its name: edited by its hooks, then remembered."""
        for layer, hook in self.hooks.get(site, ()):
            edited = _checked(hook, site)
            if isinstance(layer, int):
                value = jax.lax.cond(self.layer == layer, edited, lambda same: same, value)
            else:
                value = edited(value)
        self.seen[site] = value
        return value

    def needs(self, site: str) -> bool:
        """Whether a value that the pass could do without is tapped or hooked."""
        return site in self.wanted or site in self.hooks


def _checked(hook: Hook, site: str) -> Hook:
    """The hook, with its result held to the shape and dtype of what it edits."""

    def edited(value: Array) -> Array:
        result = jnp.asarray(hook(value))
        if result.shape != value.shape:
            raise ActivationNameError(
                f"the hook on {site} returned shape {result.shape}, but the value has shape {value.shape}; "
                "return an array of the same shape"
            )
        return result.astype(value.dtype)

    return edited
