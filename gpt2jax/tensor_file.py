"""Reading single tensors out of safetensors files, and writing such files one tensor at a time.

The library `safetensors` judges whether a file is sound. Its own readers map the file into memory, where the pages that
were touched stay resident until the file is closed; reading ranges keeps no more than the tensor at hand.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
"""What weights may be, by safetensors' names."""
STORED: dict[str, np.dtype] = DTYPES | {
    "F64": np.dtype("<f8"),
    "F8_E4M3": np.dtype(jnp.float8_e4m3fn),
    "F8_E5M2": np.dtype(jnp.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype(np.int8),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""What a file may hold beside: masks, counters, quantised weights."""
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
        """The length of its data.

        Raises:
            CheckpointError: its dtype has no such length here.
        """
        return math.prod(self.shape) * self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype:
        """Its dtype in NumPy's terms.

        Raises:
            CheckpointError: NumPy has none such.
        """
        if self.dtype not in STORED:
            known = ", ".join(STORED)
            raise CheckpointError(
                f"{self.path}: {self.name} is of dtype {self.dtype}, expected {known}; convert it where it was made"
            )
        return STORED[self.dtype]

    def chunks(self, n_values: int = 1 << 23) -> Iterator[StoredTensor]:
        """The tensor in parts along its first axis: as many whole rows as `n_values` values make, at least one."""
        n_rows = self.shape[0] if self.shape else 0
        of_row = math.prod(self.shape[1:])
        if not n_rows * of_row:
            yield self
            return
        at_once = max(1, n_values // of_row)
        for first in range(0, n_rows, at_once):
            shape = (min(at_once, n_rows - first), *self.shape[1:])
            yield replace(self, shape=shape, start=self.start + first * of_row * self.numpy_dtype.itemsize)


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


def read_tensor(tensor: StoredTensor, buffer: np.ndarray | None = None) -> np.ndarray:
    """Read one tensor as stored.

    Args:
        tensor: what to read.
        buffer: uint8, at least `tensor.n_bytes` long; it may be used again afterwards. Without one it is new memory.

    Raises:
        CheckpointError: the file ends early or cannot be read.
    """
    target = np.empty(tensor.n_bytes, np.uint8) if buffer is None else buffer[: tensor.n_bytes]
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
    return target.view(tensor.numpy_dtype).reshape(tensor.shape)


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
