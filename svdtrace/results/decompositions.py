"""Decompositions on disk: the file that `svdtrace decompose` writes, and the cache under a model's fingerprint."""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt2jax.params import Model
from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.method.decomposition import Decomposition, decompose
from svdtrace.results.caches import bound, cache_folder, keep_within, mark_used
from svdtrace.surroundings.paths import path_of

NAMES = ("U", "S", "V")
# Raised whenever the same weights would be decomposed to other numbers, so that older files are made anew.
FORMAT = "svdtrace decomposition 3"


def write(path: str | Path, decomposition: Decomposition, model_fingerprint: str) -> None:
    """Write U, S, V as safetensors, with the model's fingerprint and a checksum in the metadata.

    Written beside its place and moved there, so that a reader never meets half a file.

    Raises:
        OutputError: the place cannot be written.
    """
    path = path_of(path)
    arrays = {name: np.asarray(getattr(decomposition, name)) for name in NAMES}
    metadata = {"format": FORMAT, "fingerprint": model_fingerprint, "sha256": _checksum(arrays)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp")
        os.close(handle)
        try:
            save_file(arrays, aside, metadata=metadata)
            Path(aside).chmod(0o644)  # a temporary file is private; a result is not
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{path}: cannot be written ({error}); name a place with room that you may write to"
        ) from None


def read(path: str | Path) -> tuple[Decomposition, str]:
    """Read a decomposition and its model's fingerprint, and check them against their checksum.

    Raises:
        TraceFolderError: no such file, or one that is damaged.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in NAMES}
    except (OSError, SafetensorError) as error:
        raise TraceFolderError(f"{path}: holds no decomposition ({error}); write it with svdtrace decompose") from None
    if metadata.get("format") != FORMAT:
        raise TraceFolderError(f"{path}: is not of the format {FORMAT!r}; write it anew with svdtrace decompose")
    if metadata.get("sha256") != _checksum(arrays):
        raise TraceFolderError(f"{path}: its checksum does not fit its content; write it anew with svdtrace decompose")
    return Decomposition(**{name: jnp.asarray(array) for name, array in arrays.items()}), metadata.get(
        "fingerprint", ""
    )


def cached_decompose(model: Model, key: str) -> Decomposition:
    """`svdtrace.decompose`, answered from the user's cache where the same weights were decomposed before.

    `key` is a hash of the weights, never a name. A damaged or unwritable cache costs time, nothing else. What is in it
    and how large it grows: `svdtrace.results.caches`.

    Raises:
        SettingError: a bound on the cache that is no number.
    """
    folder, room = cache_folder(), bound()
    if folder is None:
        return decompose(model)
    path = folder / "decompositions" / f"{key}.safetensors"
    try:
        decomposition, of_model = read(path)
        if of_model == key:
            mark_used(path)
            return decomposition
    except TraceFolderError:
        pass
    decomposition = decompose(model)
    with suppress(OutputError):
        write(path, decomposition, key)
        mark_used(path)
        keep_within(path.parent, room)
    return decomposition


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in NAMES:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
