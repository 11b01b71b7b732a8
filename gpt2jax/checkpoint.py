"""Reading a checkpoint straight into layer-stacked parameters.

Each parameter is allocated once, in its final place, and tensors pass through one buffer as long as the largest of
them. On CPU JAX takes the finished arrays over without a copy, which it does for memory aligned as XLA wants it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from gpt2jax.checkpoint_check import needed_tensors
from gpt2jax.checkpoint_names import TABLE, UNEMBEDDING, Entry, axis_sizes, entries_for, tensor_names
from gpt2jax.config import GPT2Config
from gpt2jax.errors import CheckpointError
from gpt2jax.finite import count_not_finite
from gpt2jax.layout import FileLayout, TensorLayout
from gpt2jax.params import Blocks, LayerNorm, Params
from gpt2jax.stored_names import Recognised, recognise
from gpt2jax.tensor_file import StoredTensor, read_tensor
from gpt2jax.weight_files import WeightFiles, find_weight_files

_XLA_ALIGNMENT = 64
_ROWS_AT_ONCE = 1024
_MOST_NAMED = 8
_BLOCK_FIELDS = [field.name for field in fields(Blocks)]


@dataclass(frozen=True)
class Checkpoint:
    """What was read: the parameters, the files' layout, the content of their index (`None` for a single file), and
    what is to be said of it, a sentence each.
    """

    params: Params
    files: tuple[FileLayout, ...]
    index: bytes | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What files hold of a model, before any of it is read: the rows of the table of names, and for each of their
    names the tensor.
    """

    weights: WeightFiles
    recognised: Recognised
    entries: tuple[Entry, ...]
    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...]


def read_checkpoint(
    folder: Path,
    config: GPT2Config,
    *,
    tied: bool = True,
    headless: bool = False,
    parts: str | Collection[str] | None = None,
) -> Checkpoint:
    """Read a folder's weights into float32 parameters; float16 and bfloat16 values are exact in it.

    Args:
        folder: a Hugging Face GPT-2 folder.
        config: its configuration.
        tied: whether the unembedding may be the token embedding. If so, an `lm_head.weight` equal to it bit for bit,
            or none, leaves `W_U` at `None`.
        headless: whether a checkpoint without an unembedding, tied or not, is read as far as it goes; its `ln_final`
            and `W_U` are then `None`.
        parts: what to read (`gpt2jax.checkpoint_names.PARTS`); other fields are `None`. Default: everything.

    Raises:
        CheckpointError: weights that are missing, damaged, not finite, or do not fit the configuration.
        InputError: an unknown part.
    """
    held = find_contents(folder, config, tied=tied, headless=headless, parts=parts)
    values = _read(held.entries, config, held.tensors, tied, held.weights.where)
    found = held.recognised.found
    located = {found[name].name: name for name, _, _ in tensor_names(config, TABLE) if name in found}
    return Checkpoint(params_from(values), _layout(held.weights, located), held.weights.index, held.notes)


def find_contents(
    folder: Path,
    config: GPT2Config,
    *,
    tied: bool = True,
    headless: bool = False,
    parts: str | Collection[str] | None = None,
) -> Contents:
    """What a folder's files hold of a model; arguments and errors are those of `read_checkpoint`."""
    entries = entries_for(parts)
    weights = find_weight_files(folder)
    recognised = recognise(weights.tensors(), tied=tied, where=weights.where)
    notes = recognised.notes
    if UNEMBEDDING.name not in recognised.found:
        if tied:
            entries = tuple(entry for entry in entries if entry is not UNEMBEDDING)
        elif headless and parts is None:
            entries = entries_for(("embed", "heads", "mlp"))
            notes += ("there is no LM head and the embeddings are untied: it gives no logits",)
    tensors = needed_tensors(recognised, config, entries, weights.where)
    return Contents(weights, recognised, tuple(entries), tensors, notes)


def _read(
    entries: Collection[Entry], config: GPT2Config, tensors: dict[str, StoredTensor], tied: bool, where: Path
) -> dict[str, Array]:
    """Parameters by dotted name."""
    values: dict[str, Array] = {}
    buffer = np.empty(max(tensor.n_bytes for tensor in tensors.values()), np.uint8)
    embedding = None
    not_finite: list[str] = []
    for entry in entries:
        if entry is UNEMBEDDING and tied and _equal_bits(tensors[entry.name], buffer, embedding):
            continue
        arrays = _read_entry(entry, config, tensors, buffer, not_finite)
        embedding = arrays.get("W_E", embedding)
        values |= {name: jax.device_put(array) for name, array in arrays.items()}
    refuse_not_finite(where, not_finite)
    return values


def refuse_not_finite(where: Path, found: Sequence[str]) -> None:
    """Raise CheckpointError if tensors, a phrase of `not_finite_phrase` each, hold values that are not finite."""
    if found:
        more = f" and {len(found) - _MOST_NAMED} tensors more" if len(found) > _MOST_NAMED else ""
        held = f"{', '.join(found[:_MOST_NAMED])}{more}"
        raise CheckpointError(
            f"{where}: {held}; fetch the weights again, or take a checkpoint from before they diverged"
        )


def not_finite_phrase(name: str, count: int) -> str:
    """What to say of a tensor with so many values that are not finite."""
    values = "1 value that is" if count == 1 else f"{count:,} values that are"
    return f"{name} holds {values} not finite (NaN or infinite)"


def params_from(values: dict[str, Array]) -> Params:
    """Parameters from values by dotted name (`blocks.ln1.w`); `None` where there is no value."""

    def norm(name: str) -> LayerNorm | None:
        w, b = values.get(f"{name}.w"), values.get(f"{name}.b")
        return None if w is None or b is None else LayerNorm(w=w, b=b)

    blocks: dict[str, Any] = {field: values.get(f"blocks.{field}") for field in _BLOCK_FIELDS}
    blocks.update(ln1=norm("blocks.ln1"), ln2=norm("blocks.ln2"))
    return Params(
        W_E=values.get("W_E"),
        W_pos=values.get("W_pos"),
        blocks=Blocks(**blocks),
        ln_final=norm("ln_final"),
        W_U=values.get("W_U"),
    )


def _read_entry(
    entry: Entry,
    config: GPT2Config,
    tensors: dict[str, StoredTensor],
    buffer: np.ndarray,
    not_finite: list[str],
) -> dict[str, np.ndarray]:
    """All layers of one row of the table, in the parameters' own axes; tensors that are not finite are noted."""
    shape = entry.parameter_shape(config)
    arrays = {name: _aligned(shape) for name in entry.parameters}
    for layer, name in enumerate(entry.names(config)):
        tensor = read_tensor(tensors[name], buffer)
        bad = 0
        for array, view in zip(arrays.values(), parameter_views(tensor, entry, config), strict=True):
            target = array[layer] if entry.per_layer else array
            target[...] = view
            bad += count_not_finite(target)
        if bad:
            not_finite.append(not_finite_phrase(tensors[name].name, bad))
    return arrays


def parameter_views(tensor: np.ndarray, entry: Entry, config: GPT2Config) -> list[np.ndarray]:
    """A stored tensor seen as the parameters it holds: views, one for each, in the parameters' axes."""
    sizes = axis_sizes(config)
    axes = list(entry.axes)
    tensor = tensor.reshape([sizes[axis] for axis in axes])
    if "qkv" in axes:
        views = list(np.moveaxis(tensor, axes.index("qkv"), 0))
        axes.remove("qkv")
    else:
        views = [tensor]
    order = [axes.index(axis) for axis in entry.parameter_axes.split()]
    return [view.transpose(order) for view in views]


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Float32 memory that JAX can take over on CPU without a copy."""
    n_bytes = math.prod(shape) * np.dtype(np.float32).itemsize
    memory = np.empty(n_bytes + _XLA_ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _XLA_ALIGNMENT
    return memory[start : start + n_bytes].view(np.float32).reshape(shape)


def _equal_bits(tensor: StoredTensor, buffer: np.ndarray, embedding: np.ndarray | None) -> bool:
    if embedding is None:
        return False
    unembedding = read_tensor(tensor, buffer)
    return all(
        np.array_equal(
            unembedding[start : start + _ROWS_AT_ONCE].astype(np.float32).view(np.uint32),
            embedding[start : start + _ROWS_AT_ONCE].view(np.uint32),
        )
        for start in range(0, len(embedding), _ROWS_AT_ONCE)
    )


def _layout(weights: WeightFiles, located: dict[str, str]) -> tuple[FileLayout, ...]:
    """The files with those of their tensors that the table has, `located` by their own names."""
    return tuple(
        FileLayout(
            file.path.name,
            file.metadata,
            tuple(
                TensorLayout(tensor.name, tensor.dtype, located[tensor.name])
                for tensor in file.tensors
                if tensor.name in located
            ),
        )
        for file in weights.files
    )
