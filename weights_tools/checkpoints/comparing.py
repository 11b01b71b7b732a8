"""Two checkpoints tensor by tensor, whatever their headers, names and order; or one against a list of hashes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2jax.checkpoint_names import TOKEN_EMBEDDING, UNEMBEDDING
from gpt2jax.errors import CheckpointError, SourceError
from gpt2jax.stored_fingerprint import equal_values
from gpt2jax.stored_names import recognise
from gpt2jax.tensor_file import StoredTensor, read_tensor
from weights_tools.checkpoints.opened import Opened
from weights_tools.checkpoints.tensors import file_hash, tensor_hash

SAME, OTHER_DTYPE, DIFFERS, OTHER_SHAPE, ONLY_HERE, ONLY_THERE = (
    *("same", "same values, other dtype", "differs", "other shape", "only here", "only there"),
)
AS_GOOD = (SAME, OTHER_DTYPE)
_LINE = re.compile(r"([0-9a-fA-F]{64})[ \t]+\*?(.+)")
Advance = Callable[[int, int], object]


@dataclass(frozen=True)
class Compared:
    """One tensor, or file, of two.

    Attributes:
        name: by the table of names where it has that, else its own.
        verdict: one of the words above.
        here, there: dtype and shape, such as `F32 [8, 24]`; `None` where it is not, or where a hash alone is known.
        differing: how many of `n_values` differ; `None` where they were not compared.
        largest: the largest |here − there|; `None` where that is no finite number.
        relative: Frobenius norm of here − there, over that of there; `None` likewise.
    """

    name: str
    verdict: str
    here: str | None = None
    there: str | None = None
    n_values: int | None = None
    differing: int | None = None
    largest: float | None = None
    relative: float | None = None


def named(held: Opened) -> dict[str, StoredTensor]:
    """A checkpoint's tensors by the table's names, others by their own; without causal masks, and without an
    unembedding that is a copy of the token embedding.
    """
    stored = held.tensors
    try:
        known = recognise(stored, tied=True, where=held.files.where)
    except CheckpointError:
        return stored
    if known.doubled:
        return stored
    found = known.found | known.heads
    pair = [found.get(entry.name) for entry in (TOKEN_EMBEDDING, UNEMBEDDING)]
    if None not in pair and equal_values(*filter(None, pair)):
        del found[UNEMBEDDING.name]
    return found


def compared(here: Opened, there: Opened, advance: Advance | None = None) -> list[Compared]:
    """Every tensor of two checkpoints.

    Raises:
        CheckpointError: a file ends early, or holds a dtype that cannot be read.
    """
    ours, theirs = named(here), named(there)
    names = [*ours, *(name for name in theirs if name not in ours)]
    found = []
    for name in names:
        found.append(_pair(name, ours.get(name), theirs.get(name)))
        if advance is not None:
            advance(len(found), len(names))
    return found


def against_sums(here: Opened, sums: Mapping[str, str], advance: Advance | None = None) -> list[Compared]:
    """A checkpoint against hashes by name, of its files (as sha256sum has it) or of its tensors (`tensor_hash`).

    Where one of the names is a tensor's, a tensor that is not listed is a difference.

    Raises:
        CheckpointError: a file cannot be read.
    """
    tensors = here.tensors
    by_table = named(here)
    found, listed = [], set()
    for name, expected in sums.items():
        tensor = tensors.get(name) or by_table.get(name)
        path = _file(here, name)
        if path is None and tensor is None:
            found.append(Compared(name, ONLY_THERE))
        else:
            listed |= set() if tensor is None or path is not None else {tensor.name}
            actual = file_hash(path) if path is not None else tensor_hash(tensor) if tensor is not None else ""
            found.append(Compared(name, SAME if actual == expected else DIFFERS))
        if advance is not None:
            advance(len(found), len(sums))
    unlisted = [name for name in tensors if name not in listed] if listed else []
    return found + [Compared(name, ONLY_HERE) for name in unlisted]


def read_sums(path: Path) -> dict[str, str]:
    """A file of lines `HASH  NAME`, by name.

    Raises:
        SourceError: a line is none such, or there are none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        raise SourceError(
            f"{path}: cannot be read as a list of hashes ({failure}); give one, or a checkpoint"
        ) from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise SourceError(f"{path} line {number}: expected a SHA-256 and a name, found {line[:60]!r}; correct it")
        found[match[2]] = match[1].lower()
    if not found:
        raise SourceError(f"{path}: holds no hashes; give what `weights-tools verify PATH` prints, or sha256sum's")
    return found


def _file(here: Opened, name: str) -> Path | None:
    path = here.folder / name if here.folder is not None else here.files.where
    return path if path.is_file() and path.name == Path(name).name else None


def _pair(name: str, here: StoredTensor | None, there: StoredTensor | None) -> Compared:
    ours, theirs = (None if each is None else f"{each.dtype} {list(each.shape)}" for each in (here, there))
    if here is None or there is None:
        return Compared(name, ONLY_THERE if here is None else ONLY_HERE, ours, theirs)
    if here.shape != there.shape:
        return Compared(name, OTHER_SHAPE, ours, theirs)
    differing, largest, square, size = 0, 0.0, 0.0, 0.0
    with np.errstate(invalid="ignore", over="ignore"):
        for parts in zip(here.chunks(), there.chunks(), strict=True):
            one, other = (read_tensor(part) for part in parts)
            unequal = _unequal(one, other)
            differing += int(np.count_nonzero(unequal))
            change = np.abs(one[unequal].astype(np.float64) - other[unequal].astype(np.float64))
            largest = max(largest, float(np.max(change, initial=0.0))) if not np.any(np.isnan(change)) else math.nan
            square += float(np.sum(np.square(change)))
            size += float(np.sum(np.square(other.astype(np.float64))))
    verdict = DIFFERS if differing else SAME if here.dtype == there.dtype else OTHER_DTYPE
    relative = math.sqrt(square / size) if size > 0 else 0.0 if not differing else math.nan
    return Compared(
        name,
        verdict,
        ours,
        theirs,
        n_values=math.prod(here.shape),
        differing=differing,
        largest=largest if math.isfinite(largest) else None,
        relative=relative if math.isfinite(relative) else None,
    )


def _unequal(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which values differ: in their bits where the dtype is the same, else as numbers, NaN being like NaN."""
    if one.dtype == other.dtype:
        bits = [np.ascontiguousarray(each).reshape(-1).view(np.uint8).reshape(each.size, -1) for each in (one, other)]
        return np.any(bits[0] != bits[1], axis=1).reshape(one.shape) if one.size else np.zeros(one.shape, bool)
    wide = [each.astype(np.float64) for each in (one, other)]
    return (wide[0] != wide[1]) & ~(np.isnan(wide[0]) & np.isnan(wide[1]))
