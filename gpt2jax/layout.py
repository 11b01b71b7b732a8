"""How a checkpoint was written, remembered so that it can be written back bit for bit, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorLayout:
    """One tensor: its name in the file, its dtype in safetensors' terms, its name in the table of names."""

    name: str
    dtype: str
    canonical: str


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


@dataclass(frozen=True)
class Origin:
    """Where a model came from; all origins are equal, since none makes another model.

    Attributes:
        hub_id: the Hugging Face hub's name of it; `None` for a folder or a model made in Python.
        revision: the branch, tag or commit that was asked for.
        commit: the commit that the hub resolved it to.
        notes: what is to be said of the checkpoint, a sentence each, such as which tensors were left out.
    """

    hub_id: str | None = field(default=None, compare=False)
    revision: str | None = field(default=None, compare=False)
    commit: str | None = field(default=None, compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
