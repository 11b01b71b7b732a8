"""Prompts spread over devices, and where they must be, parameters too: one mesh, the same code for one device or many.

Axis `prompt` of the mesh splits a batch's prompts; axis `model` splits the parameters of models that do not fit one
device. XLA partitions the forward pass by itself. Gathering a firing's own values is done device by device, so that no
activation leaves the device that computed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array

from gpt2jax.params import Blocks, Params
from svdtrace.errors import SettingError
from svdtrace.tracing.attribute import (
    BLOCK_SIZE,
    BLOCKS_PER_CALL,
    Attributed,
    Collected,
    attribute,
    collect,
    in_blocks,
)
from svdtrace.tracing.attribute import Blocks as FiringBlocks
from svdtrace.tracing.observe import Observed

PROMPT, MODEL = "prompt", "model"
Specs = tuple[P, ...]
# The axis of each parameter that is split over `model`; the others are held whole by every device.
_MODEL_AXES = {
    **dict.fromkeys(("W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O"), 1),
    "W_in": 2,
    "b_in": 1,
    "W_out": 1,
    "W_E": 0,
    "W_U": 1,
    "b_U": 0,
}
# Where what has not one axis in front of its prompts has them.
_PROMPT_AXES: dict[str, int] = dict.fromkeys(
    ("embed", "pos", "first_q", "first_k", "final_read", "final_scale", "finite", "length", "last"), 0
)


def device_mesh(devices: Sequence[Any] | None = None, model_axis: int = 1) -> Mesh:
    """A mesh of devices.

    Args:
        devices: by default all of this process.
        model_axis: over how many of them each copy of the parameters is spread.

    Raises:
        SettingError: their number is no multiple of `model_axis`.
    """
    devices = list(jax.local_devices() if devices is None else devices)
    if model_axis < 1 or len(devices) % model_axis:
        raise SettingError(
            f"the parameters are to be spread over {model_axis} devices, but there are {len(devices)}; "
            "give a divisor of that"
        )
    return Mesh(np.asarray(devices).reshape(-1, model_axis), (PROMPT, MODEL))


def spread_params(params: Params, mesh: Mesh) -> Params:
    """Put parameters on the mesh: split over `model` where the axis divides, copied over `prompt`."""
    size = mesh.shape[MODEL]

    def put(name: str, array: Any) -> Any:
        axis = _MODEL_AXES.get(name)
        split = axis is not None and size > 1 and hasattr(array, "shape") and array.shape[axis] % size == 0
        spec = P(*[None] * axis, MODEL) if split and axis is not None else P()
        return jax.device_put(array, NamedSharding(mesh, spec))

    def each(tree: Any) -> dict[str, Any]:
        named = [(field.name, getattr(tree, field.name)) for field in fields(tree)]
        return {name: put(name, value) for name, value in named if value is not None and not isinstance(value, Blocks)}

    return replace(params, blocks=replace(params.blocks, **each(params.blocks)), **each(params))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Put arrays on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, P()))


def by_prompt(array: Any, mesh: Mesh | None) -> Any:
    """Split an array's leading axis, its prompts, over the mesh; without a mesh it stays as it is."""
    return array if mesh is None else jax.device_put(array, NamedSharding(mesh, P(PROMPT)))


def in_blocks_by_device(
    rows: np.ndarray,
    head: np.ndarray,
    prompt: np.ndarray,
    n_prompts: int,
    devices: int,
    size: int = BLOCK_SIZE,
    n_blocks: int = BLOCKS_PER_CALL,
) -> tuple[np.ndarray, np.ndarray]:
    """`svdtrace.tracing.attribute.in_blocks` of each device's own prompts, side by side.

    Args:
        rows, head, prompt: the firings' rows, heads and prompts.
        n_prompts: rows of the batch, a multiple of `devices`.
        size: slots of a block; n_blocks: of a device's part of a call.

    Returns:
        Rows [call block slot], heads [call block]; the block axis holds a call's blocks of each device.
    """
    owner = prompt // (n_prompts // devices)
    parts = [in_blocks(rows[owner == device], head[owner == device], size, n_blocks) for device in range(devices)]
    calls = max(len(each) for each, _ in parts)

    def filled(array: np.ndarray, filler: int) -> np.ndarray:
        lacking = np.full((calls - len(array), *array.shape[1:]), filler, array.dtype)
        return np.concatenate([array, lacking])

    slots = np.concatenate([filled(each, -1) for each, _ in parts], axis=1)
    return slots, np.concatenate([filled(each, 0) for _, each in parts], axis=1)


def collect_by_device(
    observed: Observed, blocks: FiringBlocks, layer: Any, mesh: Mesh, *, n_layers: int, sides: tuple[str, ...]
) -> Collected:
    """`svdtrace.tracing.attribute.collect`, each device from its own prompts.

    Args:
        blocks: as `in_blocks_by_device` arranges them.
    """
    n_prompts = observed.scale.shape[1] // mesh.shape[PROMPT]
    # Positions within the device's own prompts; an empty slot's firing may be another device's.
    local = replace(blocks, prompt=blocks.prompt % n_prompts)
    axes = [0 if isinstance(leaf, np.ndarray) else _PROMPT_AXES.get(name, 1) for name, leaf in _named(observed, local)]
    specs = (*(P(*[None] * axis, PROMPT) for axis in axes), P())
    # Queries and keys; ‖x̃‖ of both ends; of each side what was written, the scale, norms of what heads wrote, the rest.
    n_read = 0 if observed.read is None else 2
    n_written = 2 + (observed.written is not None) + (observed.mlp_out is not None)
    outputs = (P(PROMPT),) * (2 + n_read + n_written * len(sides))
    return _on_devices(collect, (observed, local, layer), specs, outputs, mesh, n_layers=n_layers, sides=sides)


def attribute_by_device(
    collected: Collected, filled: np.ndarray, head: np.ndarray | Array, *given: Any, mesh: Mesh, **options: Any
) -> Attributed:
    """`svdtrace.tracing.attribute.attribute`, each device its own blocks, in a loop of its own."""
    by_block = len(jax.tree.leaves((collected, filled, head)))
    specs = (P(PROMPT),) * by_block + (P(),) * len(jax.tree.leaves(given))
    # Slices and products go by block; weights, bounds and edges have their side in front.
    outputs = (P(PROMPT),) * 5 + (P(None, PROMPT),) * 6
    return _on_devices(attribute, (collected, filled, head, *given), specs, outputs, mesh, **options)


def _named(observed: Observed, blocks: FiringBlocks) -> list[tuple[str, Any]]:
    """All arrays with the names of their fields, in the order of flattening."""
    return [
        (field.name, leaf)
        for tree in (observed, blocks)
        for field in fields(tree)
        for leaf in jax.tree.leaves(getattr(tree, field.name))
    ]


def _on_devices(
    function: Callable[..., Any], args: tuple[Any, ...], specs: Specs, outputs: Specs, mesh: Mesh, **options: Any
) -> Any:
    leaves, tree = jax.tree.flatten(args)
    return _mapped(function, tuple(options.items()), tree, specs, outputs, mesh)(*leaves)


@lru_cache(maxsize=128)
def _mapped(
    function: Callable[..., Any],
    options: tuple[tuple[str, Any], ...],
    tree: Any,
    specs: Specs,
    outputs: Specs,
    mesh: Mesh,
) -> Callable[..., Any]:
    """The function on each device's share: arrays alone go in and out, since specs in their place would not pass the
    checks of our own pytrees.
    """
    structure: list[Any] = []

    def local(*leaves: Any) -> tuple[Any, ...]:
        found, out = jax.tree.flatten(function(*tree.unflatten(leaves), **dict(options)))
        structure[:] = [out]
        return tuple(found)

    mapped = jax.jit(
        jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=outputs, axis_names={PROMPT}, check_vma=False)
    )

    def run(*leaves: Any) -> Any:
        found = mapped(*leaves)
        return structure[0].unflatten(found)

    return run
