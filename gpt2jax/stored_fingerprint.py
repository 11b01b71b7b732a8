"""The fingerprint of a model that stays on disk: that of the loaded model, read one tensor at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gpt2jax.checkpoint import (
    Contents,
    find_contents,
    not_finite_phrase,
    parameter_views,
    params_from,
    refuse_not_finite,
)
from gpt2jax.checkpoint_names import TABLE, TOKEN_EMBEDDING, UNEMBEDDING, Entry
from gpt2jax.config import GPT2Config, is_tied, lacks_lm_head
from gpt2jax.fingerprint import beginning, head
from gpt2jax.finite import count_not_finite
from gpt2jax.layout import CONFIG_FILE
from gpt2jax.load import read_config
from gpt2jax.tensor_file import StoredTensor, read_tensor

Advance = Callable[[int, int], object]


@dataclass(frozen=True)
class StoredFingerprint:
    """A fingerprint and what it covers: the configuration, and parameters under `gpt2jax.params`' names."""

    fingerprint: str
    config: GPT2Config
    parameters: tuple[str, ...]
    n_weights: int
    notes: tuple[str, ...]


def stored_fingerprint(
    folder: Path, parts: str | Collection[str] | None = None, advance: Advance | None = None
) -> StoredFingerprint:
    """`fingerprint(load(folder, parts=parts))`, with no more in memory than one tensor.

    Args:
        folder: a Hugging Face GPT-2 folder.
        parts: what of it to read, as `gpt2jax.load` has it.
        advance: called with how many parameters are done and how many there are.

    Raises:
        ConfigError, CheckpointError, InputError: see `gpt2jax.load`.
    """
    _, raw, config = read_config(folder)
    tied = is_tied(raw, str(folder / CONFIG_FILE))
    held = find_contents(folder, config, tied=tied, headless=lacks_lm_head(raw), parts=parts)
    entries = [entry for entry in held.entries if entry is not UNEMBEDDING or not (tied and equal_pair(held))]
    places = {name: (entry, number) for entry in entries for number, name in enumerate(entry.parameters)}
    keys = _keys(places.keys())
    digest = hashlib.sha256(beginning(config, "raw"))
    not_finite: dict[str, int] = {}
    for done, (name, key) in enumerate(keys.items(), 1):
        entry, number = places[name]
        digest.update(head(key, np.dtype(np.float32), entry.parameter_shape(config)))
        for own, values in _values(entry, number, config, held.tensors):
            digest.update(values.view(np.uint8).data)
            not_finite[own] = not_finite.get(own, 0) + count_not_finite(values)
        if advance is not None:
            advance(done, len(keys))
    refuse_not_finite(held.weights.where, [not_finite_phrase(own, bad) for own, bad in not_finite.items() if bad])
    n_weights = sum(
        int(np.prod(entry.parameter_shape(config), dtype=np.int64)) * len(entry.parameters) for entry in entries
    )
    return StoredFingerprint(digest.hexdigest(), config, tuple(keys), n_weights, held.notes)


def equal_pair(held: Contents) -> bool:
    """Whether unembedding and token embedding are there and equal, bit for bit in float32."""
    pair = [held.tensors.get(entry.name) for entry in (TOKEN_EMBEDDING, UNEMBEDDING)]
    return None not in pair and equal_values(*filter(None, pair))


def equal_values(first: StoredTensor, second: StoredTensor) -> bool:
    """Whether two tensors are equal bit for bit once they are float32."""
    if first.shape != second.shape:
        return False
    pairs = zip(first.chunks(), second.chunks(), strict=True)
    return all(np.array_equal(_bits(one), _bits(other)) for one, other in pairs)


def _bits(tensor: StoredTensor) -> np.ndarray:
    return read_tensor(tensor).astype(np.float32).view(np.uint32)


def _keys(names: Collection[str]) -> dict[str, str]:
    """Parameters in the order of the loaded model's leaves, each with its key there."""
    tiny = GPT2Config(n_layers=1, n_heads=1, d_model=1, d_mlp=1, n_ctx=1, d_vocab=1)
    shapes = {name: entry.parameter_shape(tiny) for entry in TABLE for name in entry.parameters}
    leaves = jax.tree_util.tree_leaves_with_path(params_from({name: jnp.zeros(shapes[name]) for name in names}))
    keystr = jax.tree_util.keystr
    return {keystr(path, simple=True, separator="."): keystr(path) for path, _ in leaves}


def _values(
    entry: Entry, number: int, config: GPT2Config, tensors: dict[str, StoredTensor]
) -> Iterator[tuple[str, np.ndarray]]:
    """The bytes of one parameter in order, as float32 arrays, each with the name of the tensor that it is of."""
    as_stored = entry.tensor_axes == entry.parameter_axes
    for name in entry.names(config):
        for part in tensors[name].chunks() if as_stored else [tensors[name]]:
            stored = read_tensor(part)
            view = stored if as_stored else parameter_views(stored, entry, config)[number]
            yield part.name, np.ascontiguousarray(view, np.float32)
