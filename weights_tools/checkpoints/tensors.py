"""One tensor in numbers, read part by part: its hash, its norm, what of it is not finite."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2jax.tensor_file import STORED, StoredTensor, read_tensor

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class TensorFacts:
    """A tensor in numbers.

    Attributes:
        name: in its file.
        file: that file's name.
        dtype: in safetensors' terms.
        shape: as stored.
        sha256: over dtype, shape and data (`tensor_hash`); `None` for a dtype that is not read.
        norm: Frobenius norm of its finite values; `None` where it holds no floating-point numbers.
        largest: magnitude of the largest of them.
        not_finite: how many values are NaN or infinite.
        constant: whether all its values are the same.
    """

    name: str
    file: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str | None
    norm: float | None
    largest: float | None
    not_finite: int
    constant: bool

    @property
    def n_values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def tensor_facts(tensor: StoredTensor) -> TensorFacts:
    """Read a tensor once and say what it holds.

    Raises:
        CheckpointError: its file ends early or cannot be read.
    """
    place = (tensor.name, tensor.path.name, tensor.dtype, tensor.shape)
    if tensor.dtype not in STORED:
        return TensorFacts(*place, None, None, None, 0, False)
    digest = hashlib.sha256(_title(tensor))
    square, largest, bad, first, constant = 0.0, 0.0, 0, None, True
    for part in tensor.chunks():
        values = read_tensor(part)
        digest.update(_bytes(values))
        if not values.size:
            continue
        first = values.reshape(-1)[0] if first is None else first
        constant = constant and bool(np.all(values == first))
        if tensor.dtype in _FLOATS:
            wide = values.astype(np.float64)
            finite = np.isfinite(wide)
            bad += int(wide.size - np.count_nonzero(finite))
            wide = np.where(finite, wide, 0)
            square += float(np.sum(np.square(wide)))
            largest = max(largest, float(np.max(np.abs(wide))))
    if tensor.dtype not in _FLOATS:
        return TensorFacts(*place, digest.hexdigest(), None, None, 0, constant)
    return TensorFacts(*place, digest.hexdigest(), math.sqrt(square), largest, bad, constant)


def tensor_hash(tensor: StoredTensor) -> str:
    """SHA-256 over a tensor's dtype, shape and data, as hexadecimal: the same in any file, beside any others.

    Hashed is `DTYPE [n, …]` and a line feed (`F32 [768, 2304]`), then the data as stored, little-endian, row by row.
    """
    digest = hashlib.sha256(_title(tensor))
    for part in tensor.chunks():
        digest.update(_bytes(read_tensor(part)))
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def equal_tensors(facts: Iterable[TensorFacts]) -> tuple[tuple[str, ...], ...]:
    """Names of tensors that hold the same numbers, two or more each; vectors and constants are no news."""
    alike: dict[str, list[str]] = {}
    for each in facts:
        if each.sha256 is not None and len(each.shape) > 1 and not each.constant:
            alike.setdefault(each.sha256, []).append(each.name)
    return tuple(tuple(names) for names in alike.values() if len(names) > 1)


def _title(tensor: StoredTensor) -> bytes:
    return f"{tensor.dtype} {list(tensor.shape)}\n".encode()


def _bytes(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
