"""Arrays of a file by name, dtype and shape known before they are read: safetensors and npz, never pickle."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from gpt2jax.errors import CheckpointError, SourceError
from gpt2jax.tensor_file import STORED, StoredTensor, open_tensor_file, read_tensor
from gpt2jax.weight_files import WeightFiles, find_weight_files

ARCHIVE, TENSORS = ".npz", ".safetensors"
_NAMES = {dtype: name for name, dtype in STORED.items()}
# A damaged, truncated or encrypted archive, each as Python says it.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError)
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True)
class StoredArray:
    """An array in a file; `dtype` in safetensors' terms."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file, or of the one file of weights in a folder; none is read.

    Args:
        path: a .safetensors or .npz file, or a folder with `model.safetensors`, its shards, or one .npz file.

    Raises:
        SourceError: there is no such file, or several.
        CheckpointError: a damaged file, or one that holds pickled objects.
    """
    if path.is_dir():
        archives = sorted(path.glob(f"*{ARCHIVE}"))
        if len(archives) > 1:
            named = ", ".join(each.name for each in archives)
            raise SourceError(f"{path}: holds several archives, {named}; name one of these files")
        return _of_tensors(find_weight_files(path)) if not archives else _of_archive(archives[0])
    if not path.exists():
        raise SourceError(f"{path}: no such file or folder; give a {TENSORS} or {ARCHIVE} file, or a folder with one")
    if path.suffix == TENSORS:
        return _of_tensors(WeightFiles(path, (open_tensor_file(path),), None, {}))
    if path.suffix == ARCHIVE:
        return _of_archive(path)
    raise SourceError(
        f"{path}: expected a {TENSORS} or {ARCHIVE} file, found another; pickle files can run code and are never "
        "opened: where the model was made, write its arrays with safetensors.torch.save_file or numpy.savez"
    )


def of_tensor(tensor: StoredTensor) -> StoredArray:
    """A tensor of a safetensors file as such an array."""
    return StoredArray(tensor.path, tensor.name, tensor.dtype, tensor.shape, lambda: read_tensor(tensor))


def _of_tensors(files: WeightFiles) -> dict[str, StoredArray]:
    return {name: of_tensor(tensor) for name, tensor in files.tensors().items()}


def _of_archive(path: Path) -> dict[str, StoredArray]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [each.filename for each in archive.infolist()]
            return {each.name: each for each in (_of_entry(path, archive, name) for name in names)}
    except _UNREADABLE as failure:
        reason = " ".join(str(failure).split())
        raise CheckpointError(f"{path}: not a complete {ARCHIVE} archive of arrays ({reason}); make it again") from None


def _of_entry(path: Path, archive: zipfile.ZipFile, entry: str) -> StoredArray:
    name = entry.removesuffix(".npy")
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{entry} is of version {version} of NumPy's format")
        shape, _, dtype = _HEADERS[version](file)
    little = dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype
    if dtype.hasobject:
        raise CheckpointError(f"{path}: {name} holds pickled objects, which are never opened; save plain arrays")
    if little not in _NAMES:
        raise CheckpointError(f"{path}: {name} is of dtype {dtype}, expected numbers; save plain arrays")
    return StoredArray(path, name, _NAMES[little], shape, lambda: _read_entry(path, entry, little))


def _read_entry(path: Path, entry: str, dtype: np.dtype) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(entry) as file:
            return npy.read_array(file, allow_pickle=False).astype(dtype, copy=False)
    except _UNREADABLE as failure:
        reason = " ".join(str(failure).split())
        raise CheckpointError(f"{path}: {entry} cannot be read ({reason}); make it again") from None
