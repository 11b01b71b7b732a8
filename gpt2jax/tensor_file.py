"""Reading single tensors out of safetensors files, and writing such files one tensor at a time.

The library `safetensors` judges whether a file is sound. Its own readers map the file into memory, where the pages that
were touched stay resident until the file is closed; reading ranges keeps no more than the tensor at hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open

from gpt2jax.errors import CheckpointError

DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(jnp.bfloat16),
}
_ALIGNMENT = 8


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its name, its dtype in safetensors' terms, its shape, where its bytes begin."""

    path: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def n_bytes(self) -> int:
        """The length of its data, for a dtype that `DTYPES` has."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


@dataclass(frozen=True)
class TensorFile:
    """What a safetensors file says it holds, tensors in the order of their data."""

    path: Path
    metadata: tuple[tuple[str, str], ...] | None
    tensors: tuple[StoredTensor, ...]


def open_tensor_file(path: Path) -> TensorFile:
    """Read the header of a safetensors file; no tensor is read.

    Raises:
        CheckpointError: the file is missing, truncated, or no safetensors file.
    """
    try:
        # The system's own words for what cannot be opened; the library's are of mapping it into memory.
        path.open("rb").close()
        with safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; fetch the whole checkpoint") from None
    except (SafetensorError, ValueError) as failure:
        raise CheckpointError(f"{path}: {_what_it_is(path, failure)}") from failure
    except OSError as failure:
        reason = failure.strerror or str(failure)
        raise CheckpointError(f"{path}: cannot be read ({reason}); check the file and its permissions") from failure
    metadata = header.pop("__metadata__", None)
    tensors = [
        StoredTensor(path, name, at["dtype"], tuple(at["shape"]), 8 + length + at["data_offsets"][0])
        for name, at in header.items()
    ]
    return TensorFile(
        path,
        None if metadata is None else tuple(metadata.items()),
        tuple(sorted(tensors, key=lambda tensor: tensor.start)),
    )


def read_tensor(tensor: StoredTensor, buffer: np.ndarray) -> np.ndarray:
    """Read one tensor as stored, into memory that is given and may be used again afterwards.

    Args:
        tensor: what to read.
        buffer: uint8, at least `tensor.n_bytes` long.

    Raises:
        CheckpointError: the file ends early or cannot be read.
    """
    target = buffer[: tensor.n_bytes]
    try:
        with tensor.path.open("rb", buffering=0) as file:
            file.seek(tensor.start)
            done = 0
            while done < tensor.n_bytes:
                got = file.readinto(target[done:].data)
                if not got:
                    reason = f"ends within {tensor.name}"
                    raise CheckpointError(f"{tensor.path}: {reason}; fetch it again")
                done += got
    except OSError as failure:
        raise CheckpointError(f"{tensor.path}: cannot be read ({failure.strerror}); check the disk") from failure
    return target.view(DTYPES[tensor.dtype]).reshape(tensor.shape)


def write_tensor_file(
    path: Path,
    metadata: Sequence[tuple[str, str]] | None,
    tensors: Sequence[tuple[str, str, tuple[int, ...]]],
    tensor_data: Callable[[str], np.ndarray],
) -> None:
    """Write a safetensors file, as the library itself lays it out.

    Args:
        path: the file.
        metadata: the header's own entries; `None` for none.
        tensors: name, dtype and shape of each, in the order of their data.
        tensor_data: gives a tensor by its name, in that shape and dtype; asked once for each.
    """
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    start = 0
    for name, dtype, shape in tensors:
        stop = start + math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name, _, _ in tensors:
            file.write(np.ascontiguousarray(tensor_data(name)).view(np.uint8).data)


def _what_it_is(path: Path, failure: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(24)
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; run `git lfs pull` in its folder"
    reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
    return f"not a complete safetensors file ({reason}); fetch or convert it again"
