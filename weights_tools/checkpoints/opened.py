"""From a path to tensors: a model folder, a safetensors file by itself, or a hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpt2jax.errors import SourceError
from gpt2jax.hub import find_model
from gpt2jax.tensor_file import StoredTensor, open_tensor_file
from gpt2jax.weight_files import WeightFiles, find_weight_files

ENDING = ".safetensors"


@dataclass(frozen=True)
class Opened:
    """Headers of weight files; `folder` is `None` for a file by itself."""

    source: str
    folder: Path | None
    files: WeightFiles

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors by their own names."""
        return self.files.tensors()


def opened(source: str | Path) -> Opened:
    """Open what a path or hub id names; no tensor is read.

    Raises:
        SourceError: no such file, folder or hub id, or a file of another kind.
        CheckpointError: weights that are missing or damaged.
    """
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix != ENDING:
            raise SourceError(f"{source}: expected a folder or a {ENDING} file, found another file; give one of these")
        return Opened(str(source), None, WeightFiles(path, (open_tensor_file(path),), None, {}))
    folder = find_model(source if isinstance(source, str) else str(source)).folder
    return Opened(str(source), folder, find_weight_files(folder))
