"""Prompts whose activations are not finite: found in the forward pass, counted, named, and left out of every table.

Overflow of large weights, or a LayerNorm of a constant without an epsilon, spoils single prompts; nothing that is
computed from them means anything. Tokens after the last traced one play no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svdtrace.errors import ModelError
from svdtrace.prompts.prompt import Prompt

NAMED = 20
NONE: Mapping[str, Any] = {"prompts": 0, "named": []}
"""What the manifest of an earlier version stands for, which says nothing of it."""


def finite_layer(
    seen: Mapping[str, Array],
    traced: Bool[Array, "prompt tok"],
    allowed: Bool[Array, "prompt 1 dest src"],
    *sizes: Float[Array, "prompt tok head"],
) -> Bool[Array, " prompt"]:
    """Whether all is finite that a layer reads and attends by.

    A query or key shows in its token's score with itself, and what the layer writes in the scale of the next LayerNorm.

    Args:
        seen: the layer's named values.
        traced: tokens up to the last traced one; allowed: see `gpt2jax.blocks.attention_mask`.
        sizes: norms that are to be finite, too.
    """
    scale, scores = seen["ln1.hook_scale"][..., 0], seen["attn.hook_attn_scores"]
    read = jnp.isfinite(scale)
    for size in sizes:
        read = read & jnp.all(jnp.isfinite(size), axis=-1)
    pairs = jnp.isfinite(scores) | ~(allowed & traced[:, None, :, None])
    return jnp.all(read | ~traced, axis=1) & jnp.all(pairs, axis=(1, 2, 3))


def finite_in_all(
    layers: Bool[Array, "layer prompt"],
    last: Int[Array, " prompt"],
    *final: Float[Array, " prompt"] | Float[Array, "prompt d_model"],
) -> Bool[Array, " prompt"]:
    """Whether all layers are finite, and what is read at the last traced token; rows without a prompt are."""
    ends = [jnp.all(jnp.isfinite(each).reshape(len(last), -1), axis=1) for each in final]
    return (jnp.all(layers, axis=0) & jnp.all(jnp.stack(ends), axis=0)) | (last < 0)


def not_finite(prompts: Sequence[Prompt], places: Iterable[int]) -> dict[str, Any]:
    """What a manifest says of the prompts at some places: how many they are, and the first of them by name."""
    places = sorted(int(each) for each in places)
    return {"prompts": len(places), "named": [prompt_name(prompts[each], each) for each in places[:NAMED]]}


def left_out(said: Mapping[str, Any]) -> str | None:
    """The same in one sentence; `None` where every prompt is finite."""
    if not said["prompts"]:
        return None
    named = ", ".join(said["named"])
    more = f" and {said['prompts'] - len(said['named']):,} more" if said["prompts"] > len(said["named"]) else ""
    are = "1 prompt is" if said["prompts"] == 1 else f"{said['prompts']:,} prompts are"
    return f"{are} left out, since activations are not finite: {named}{more}"


def refuse_nothing_finite(said: Mapping[str, Any], count: int) -> None:
    """Hold what `not_finite` says against how many prompts there are.

    Raises:
        ModelError: there are prompts, and none of them is finite.
    """
    if not count or said["prompts"] < count:
        return
    which = "the only prompt" if count == 1 else f"all {count:,} prompts"
    raise ModelError(
        f"the activations of {which} are not finite, so that nothing can be said of them; the model's weights "
        "overflow, or its layer_norm_epsilon is 0: give another model, or --dtype float64"
    )


def prompt_name(prompt: Prompt, place: int) -> str:
    """`prompt 3`, with its id where it has one."""
    return f"prompt {place}" if prompt.id is None else f'prompt {place} ("{prompt.id}")'
