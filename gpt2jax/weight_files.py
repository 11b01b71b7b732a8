"""Finding a model folder's weight files: a single file, or shards with their index."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gpt2jax.errors import CheckpointError
from gpt2jax.json_file import parse_json, read_bytes
from gpt2jax.layout import INDEX_FILE, WEIGHTS_FILE
from gpt2jax.tensor_file import StoredTensor, TensorFile, open_tensor_file

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_ALONE = (
    "holds an adapter without the model that it belongs to; merge them (in peft: "
    "model.merge_and_unload().save_pretrained(NEW)) and give NEW"
)
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a folder: what to call them in messages, the headers, the index's content (`None` without).

    `promised` maps the names that the index lists to the files that it names for them.
    """

    where: Path
    files: tuple[TensorFile, ...]
    index: bytes | None
    promised: dict[str, str]

    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors by their name; of two with the same name the one in the file that the index names."""
        found: dict[str, StoredTensor] = {}
        for file in self.files:
            for tensor in file.tensors:
                if tensor.name not in found or self.promised.get(tensor.name) == file.path.name:
                    found[tensor.name] = tensor
        return found


def find_weight_files(folder: Path) -> WeightFiles:
    """Open the headers of a folder's weight files. Pickle files are never opened.

    Raises:
        CheckpointError: no weights, a shard that is missing or damaged, an index that is no index.
    """
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    # A link that leads nowhere is a file that is lacking, which says more than that there are no weights.
    if os.path.lexists(single):
        return WeightFiles(single, (open_tensor_file(single),), None, {})
    if not os.path.lexists(index):
        raise CheckpointError(no_weights(folder, [path.name for path in folder.iterdir()]))
    text = read_bytes(index, CheckpointError, "fetch the whole checkpoint")
    promised = shard_names(text, index)
    names = sorted(set(promised.values()))
    # Path.is_file raises at names that no file can have.
    missing = [name for name in names if not os.path.isfile(folder / name)]  # noqa: PTH113
    if missing:
        raise CheckpointError(f"{index}: names {_listed(missing)}, which the folder lacks; fetch the whole checkpoint")
    return WeightFiles(index, tuple(open_tensor_file(folder / name) for name in names), text, promised)


def shard_names(text: bytes, where: Path) -> dict[str, str]:
    """What an index says: tensor name → file.

    Raises:
        CheckpointError: not an index, or one that points outside its folder or to something else than safetensors.
    """
    weight_map = parse_json(text, where, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{where}: has no weight_map from tensor names to files; fetch it again")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not file.endswith(".safetensors") or Path(file).name != file or "\\" in file:
            expected = "expected the name of a .safetensors file in the same folder"
            raise CheckpointError(f"{where}: weight_map sends {name!r} to {file!r}, {expected}; correct the index")
    return weight_map


def no_weights(where: str | Path, names: list[str]) -> str:
    """What to say of a folder or repository whose files, `names`, hold no weights that can be read."""
    if ADAPTER_CONFIG in names:
        return f"{where}: {ADAPTER_ALONE}"
    pickles = sorted(name for name in names if Path(name).suffix in _PICKLES)
    if pickles:
        found = (
            f"{where}: holds {_listed(pickles)} but no {WEIGHTS_FILE}; pickle files can run code and are never opened"
        )
        return f"{found}, so convert them to safetensors (load them in transformers, then model.save_pretrained)"
    others = _listed(sorted(names)) or "nothing"
    return f"{where}: no {WEIGHTS_FILE} nor {INDEX_FILE} (found {others}); give a folder with safetensors weights"


def _listed(names: list[str], most: int = 6) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
