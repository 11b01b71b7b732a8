"""How a checkpoint was written, remembered so that it can be written back bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorLayout:
    """One tensor: its name in the file, with or without `transformer.`, and its dtype in safetensors' terms."""

    name: str
    dtype: str


@dataclass(frozen=True)
class FileLayout:
    """One weight file: its name, its own metadata (`None` where there are none), its tensors in the data's order."""

    file: str
    metadata: tuple[tuple[str, str], ...] | None
    tensors: tuple[TensorLayout, ...]


@dataclass(frozen=True)
class Layout:
    """A model folder: the content of `config.json`, that of the shards' index (`None` for a single file), the files."""

    config: bytes
    index: bytes | None
    files: tuple[FileLayout, ...]
