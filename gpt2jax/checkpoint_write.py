"""Writing parameters as a checkpoint: as it was read, or as Hugging Face's GPT2LMHeadModel would write it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gpt2jax.checkpoint import parameter_views
from gpt2jax.checkpoint_names import TABLE, TOKEN_EMBEDDING, UNEMBEDDING, Entry, tensor_names
from gpt2jax.config import SIZES, GPT2Config, is_tied
from gpt2jax.errors import CheckpointError
from gpt2jax.layout import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, FileLayout, Layout, TensorLayout
from gpt2jax.params import Model, Params
from gpt2jax.stored_names import BODY_PREFIX, body_prefix
from gpt2jax.tensor_file import DTYPES, write_tensor_file

_NEW_FILE = FileLayout(WEIGHTS_FILE, (("format", "pt"),), ())


def write_checkpoint(model: Model, folder: Path) -> None:
    """Write `config.json`, the weights and, for shards, their index into a folder that exists.

    Raises:
        CheckpointError: parameters that are missing, do not fit the configuration, or do not fit the dtype as read.
    """
    arrays = _checked_arrays(model)
    files = _planned_files(model)
    located = {name: (entry, layer) for name, entry, layer in tensor_names(model.config, TABLE)}

    def tensor_data(tensor: TensorLayout) -> np.ndarray:
        entry, layer = located[tensor.canonical]
        return _as_stored(_gathered(arrays, entry, layer, model.config), tensor.name, tensor.dtype)

    for file in files:
        tensors = {tensor.name: tensor for tensor in file.tensors}
        plan = [(each.name, each.dtype, located[each.canonical][0].shape(model.config)) for each in file.tensors]
        write_tensor_file(
            folder / file.file, file.metadata, plan, lambda name, tensors=tensors: tensor_data(tensors[name])
        )
    if [file.file for file in files] != [WEIGHTS_FILE]:
        (folder / INDEX_FILE).write_bytes(_index_text(files, model))
    (folder / CONFIG_FILE).write_bytes(_config_text(model))


def _checked_arrays(model: Model) -> dict[str, np.ndarray]:
    """All parameters by dotted name, on the host; `W_U` only where it is its own array."""
    if model.params.b_U is not None:
        raise CheckpointError("b_U: Hugging Face's GPT-2 has no bias there; save a model without one")
    found = {}
    for entry in TABLE:
        for name in entry.parameters:
            value = _parameter(model.params, name)
            if value is None and entry is UNEMBEDDING:
                continue
            if value is None:
                raise CheckpointError(
                    f"{name}: absent, but a checkpoint holds all parameters; load the whole model first"
                )
            expected = entry.parameter_shape(model.config)
            if value.shape != expected:
                found_shape = f"{name}: shape {value.shape}, but the configuration says {expected}"
                raise CheckpointError(f"{found_shape}; give parameters and configuration that belong together")
            found[name] = np.asarray(value)
    return found


def _parameter(params: Params, name: str) -> Any:
    value: Any = params
    for attribute in name.split("."):
        value = None if value is None else getattr(value, attribute)
    return value


def _planned_files(model: Model) -> list[FileLayout]:
    """The files to write: those read, without what the model no longer has and with what it has in addition."""
    wanted = [name for name, entry, _ in tensor_names(model.config, TABLE) if entry is not UNEMBEDDING]
    layout: Layout | None = model.layout
    read = layout.files if layout is not None else (_NEW_FILE,)
    before = {tensor.canonical: tensor.name for file in read for tensor in file.tensors}
    prefix = body_prefix(before)
    # A tied lm_head that was stored as a copy is stored as a copy again.
    if model.params.W_U is not None or UNEMBEDDING.name in before:
        wanted.append(UNEMBEDDING.name)
    names = {name: prefix + name for name in wanted}
    names[UNEMBEDDING.name] = prefix.removesuffix(BODY_PREFIX) + UNEMBEDDING.name
    names |= before
    if UNEMBEDDING.name in wanted and names[TOKEN_EMBEDDING.name].endswith(UNEMBEDDING.name):
        # A tied pair under the unembedding's name, which is no pair any more.
        names[TOKEN_EMBEDDING.name] = prefix + TOKEN_EMBEDDING.name
    kept = [
        replace(
            file,
            tensors=tuple(
                replace(tensor, name=names[tensor.canonical]) for tensor in file.tensors if tensor.canonical in wanted
            ),
        )
        for file in read
    ]
    added = tuple(TensorLayout(names[name], "F32", name) for name in sorted(wanted) if name not in before)
    return [*kept[:-1], replace(kept[-1], tensors=kept[-1].tensors + added)]


def _gathered(arrays: dict[str, np.ndarray], entry: Entry, layer: int, config: GPT2Config) -> np.ndarray:
    """One tensor in its stored axes, float32."""
    if entry is UNEMBEDDING and "W_U" not in arrays:
        return np.asarray(arrays["W_E"], np.float32)
    tensor = np.empty(entry.shape(config), np.float32)
    for view, name in zip(parameter_views(tensor, entry, config), entry.parameters, strict=True):
        view[...] = arrays[name][layer] if entry.per_layer else arrays[name]
    return tensor


def _as_stored(tensor: np.ndarray, name: str, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = tensor.astype(DTYPES[dtype])
    if dtype != "F32" and np.any(np.isinf(stored.astype(np.float32)) & np.isfinite(tensor)):
        reason = f"{name}: holds {np.max(np.abs(tensor)):g}, which {dtype}, the dtype it was read in, cannot"
        raise CheckpointError(f"{reason}; save model.replace(layout=None), which writes float32")
    return stored


def _index_text(files: list[FileLayout], model: Model) -> bytes:
    """The shards' index: the text as read where it still says the truth, Hugging Face's form otherwise."""
    weight_map = {tensor.name: file.file for file in files for tensor in file.tensors}
    layout: Layout | None = model.layout
    if layout is not None and layout.index is not None and json.loads(layout.index)["weight_map"] == weight_map:
        return layout.index
    shapes = {name: entry.shape(model.config) for name, entry, _ in tensor_names(model.config, TABLE)}
    total_size = sum(
        math.prod(shapes[tensor.canonical]) * DTYPES[tensor.dtype].itemsize for file in files for tensor in file.tensors
    )
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    return (json.dumps(index, indent=2, sort_keys=True) + "\n").encode()


def _config_text(model: Model) -> bytes:
    """`config.json`: the text as read where it still says the truth, with what has changed otherwise."""
    layout: Layout | None = model.layout
    raw = json.loads(layout.config) if layout is not None else {"torch_dtype": "float32"}
    tied = model.params.W_U is None
    if layout is not None and GPT2Config.from_hf(raw) == model.config and (tied or _holds_unembedding(layout)):
        return layout.config
    aliases = {alias for _, keys, _ in SIZES for alias in keys[1:]}
    raw = {key: value for key, value in raw.items() if key not in aliases} | model.config.to_hf()
    if not tied or not is_tied(raw, CONFIG_FILE):
        raw["tie_word_embeddings"] = tied
    return (json.dumps(raw, indent=2) + "\n").encode()


def _holds_unembedding(layout: Layout) -> bool:
    return any(tensor.canonical == UNEMBEDDING.name for file in layout.files for tensor in file.tensors)
