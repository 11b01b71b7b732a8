"""A checkpoint in Hugging Face's format out of another: tensors pass one at a time, whatever they were."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpt2jax.checkpoint import not_finite_phrase, refuse_not_finite
from gpt2jax.checkpoint_check import needed_tensors
from gpt2jax.checkpoint_names import TABLE, UNEMBEDDING, tensor_names
from gpt2jax.config import GPT2Config, is_tied
from gpt2jax.errors import CheckpointError, InputError
from gpt2jax.finite import count_not_finite
from gpt2jax.layout import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE
from gpt2jax.load import read_config
from gpt2jax.new_folder import new_folder
from gpt2jax.stored_names import BODY_PREFIX, recognise
from gpt2jax.tensor_file import DTYPES, read_tensor, write_tensor_file
from gpt2jax.tokenizer_files import TOKENIZER_FILES
from weights_tools.checkpoints import foreign, foreign_config
from weights_tools.checkpoints.arrays import stored_arrays
from weights_tools.checkpoints.foreign import Tensor
from weights_tools.checkpoints.opened import opened

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Source:
    """What is converted: `config.json`'s content, tensors by the table's names, the folder with its tokenizer."""

    where: Path
    folder: Path
    config: bytes
    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """How it is written: the dtype (`None`: each tensor's own), the most bytes of a file, what stands before names."""

    dtype: str | None = None
    shard: int | None = None
    prefix: str = BODY_PREFIX


@dataclass
class Outcome:
    """What was written: files by name with their tensors' names, and how many values another dtype rounded."""

    files: dict[str, list[str]] = field(default_factory=dict)
    n_values: int = 0
    rounded: int = 0
    largest: float = 0.0
    largest_in: str | None = None


def hugging_face(source: str) -> Source:
    """A Hugging Face GPT-2: a folder, a hub id, or a safetensors file with its config.json beside it.

    A model that is not whole, but has all layers of whatever it has, is taken as it is.

    Raises:
        SourceError, ConfigError, CheckpointError: it is missing, damaged, or would compute something else.
    """
    held = opened(source)
    where = held.files.where
    folder = held.folder or where.parent
    content, raw, config = read_config(folder)
    tied = is_tied(raw, str(folder / CONFIG_FILE))
    known = recognise(held.tensors, tied=tied, where=where)
    present = [entry for entry in TABLE if any(name in known.found for name in entry.names(config))]
    tensors = needed_tensors(known, config, present, where)
    lacking = [entry.name for entry in TABLE if entry not in present and not (entry is UNEMBEDDING and tied)]
    notes = known.notes + ((f"it is not whole: {', '.join(lacking)} are not there",) if lacking else ())
    made = {name: Tensor(each.dtype, each.shape, lambda each=each: read_tensor(each)) for name, each in tensors.items()}
    return Source(where, folder, content, made, notes)


def from_program(form: str, source: str) -> Source:
    """What another program saved: a safetensors or npz file, or a folder with one.

    Args:
        form: one of `weights_tools.checkpoints.foreign.FORMATS`.

    Raises:
        SourceError, ConfigError, CheckpointError: it is missing, damaged, or would compute something else.
    """
    where = Path(source).expanduser()
    arrays, notes = foreign.recognised(form, stored_arrays(where), where)
    beside, said = foreign_config.beside(where)
    style = foreign.FORMATS[form]
    told = foreign.inferred(form, arrays, where)
    config = foreign_config.configuration(told, said, style.activation, where, beside)
    if style.linear and not any(name.endswith(".bias") for name in arrays):
        notes += ("it has no biases (bias=False); they are written as zeros, which changes nothing",)
    if not said.keys() & {"activation_function", "act_fn"}:
        notes += (
            f'its MLPs are taken to compute {config.activation}, as {form} does; "activation_function" in '
            f"{CONFIG_FILE} beside it says otherwise",
        )
    tensors = foreign.converted(form, arrays, config, where)
    raw = config.to_hf() | {"tie_word_embeddings": UNEMBEDDING.name not in tensors}
    folder = where if where.is_dir() else where.parent
    return Source(where, folder, (json.dumps(raw, indent=2) + "\n").encode(), tensors, notes)


def write(source: Source, out: Path, wanted: Wanted, advance: Callable[[int, int], object] | None = None) -> Outcome:
    """Write a model folder; it appears there complete or not at all.

    Raises:
        OutputError: the folder is not empty or cannot be written.
        CheckpointError: values that are not finite, or that the dtype cannot hold.
    """
    outcome = Outcome()
    names = _ordered(source)
    written = {name: _written_name(name, wanted.prefix) for name in names}
    dtypes = {name: wanted.dtype or source.tensors[name].dtype for name in names}
    odd = [f"{name} ({dtype})" for name, dtype in dtypes.items() if dtype not in DTYPES]
    if odd:
        raise CheckpointError(
            f"{source.where}: {', '.join(odd[:4])}, expected {', '.join(DTYPES)}; name one of these with --dtype"
        )
    own = {written[name]: name for name in names}

    def tensor_data(title: str) -> np.ndarray:
        name = own[title]
        stored = _as(source.tensors[name].make(), title, dtypes[name], source.where, outcome)
        done[0] += 1
        if advance is not None:
            advance(done[0], len(names))
        return stored

    done = [0]
    with new_folder(out) as folder:
        for file, those in _shards(source, names, dtypes, wanted.shard).items():
            plan = [(written[name], dtypes[name], source.tensors[name].shape) for name in those]
            write_tensor_file(folder / file, (("format", "pt"),), plan, tensor_data)
            outcome.files[file] = [title for title, _, _ in plan]
        if list(outcome.files) != [WEIGHTS_FILE]:
            sizes = (math.prod(source.tensors[name].shape) * DTYPES[dtypes[name]].itemsize for name in names)
            (folder / INDEX_FILE).write_text(_index(outcome.files, sum(sizes)), encoding="utf-8")
        (folder / CONFIG_FILE).write_bytes(_config(source.config, wanted.dtype))
        for name in TOKENIZER_FILES:
            if (source.folder / name).is_file():
                (folder / name).write_bytes((source.folder / name).read_bytes())
    return outcome


def size_of(written: str) -> int:
    """Bytes of `500MB`, `2GB`, `750MiB` or a number.

    Raises:
        InputError: it is no such size.
    """
    match = _SIZE.fullmatch(written.strip())
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** _POWERS[match[2].upper()]) if match else 0
    if size < 1:
        raise InputError(f"--shard is {written!r}, expected a size such as 500MB, 2GB or 750MiB; give one")
    return size


def _ordered(source: Source) -> list[str]:
    """Names with embeddings first, then layer by layer, as a forward pass comes upon them."""
    config = GPT2Config.from_hf(json.loads(source.config.decode("utf-8-sig")), str(source.folder / CONFIG_FILE))
    place = {entry: number for number, entry in enumerate(TABLE)}
    last = ("ln_f.weight", "ln_f.bias", UNEMBEDDING.name)

    def key(each: tuple[str, Any, int]) -> tuple[int, int, int]:
        name, entry, layer = each
        return (2 if name in last else 1 if entry.per_layer else 0, layer, place[entry])

    return [name for name, _, _ in sorted(tensor_names(config, TABLE), key=key) if name in source.tensors]


def _written_name(name: str, prefix: str) -> str:
    return name if name == UNEMBEDDING.name else prefix + name


def _shards(source: Source, names: list[str], dtypes: Mapping[str, str], most: int | None) -> dict[str, list[str]]:
    """Which file each tensor goes to: in order, no file above `most` bytes unless one tensor is."""
    files: list[list[str]] = [[]]
    size = 0
    for name in names:
        n_bytes = math.prod(source.tensors[name].shape) * DTYPES[dtypes[name]].itemsize
        if most is not None and files[-1] and size + n_bytes > most:
            files.append([])
            size = 0
        files[-1].append(name)
        size += n_bytes
    if len(files) == 1:
        return {WEIGHTS_FILE: files[0]}
    many = len(files)
    return {f"model-{number:05}-of-{many:05}.safetensors": those for number, those in enumerate(files, 1)}


def _as(tensor: np.ndarray, name: str, dtype: str, where: Path, outcome: Outcome) -> np.ndarray:
    """A tensor in the dtype that is asked for; what that changes is counted."""
    target = DTYPES[dtype]
    bad = count_not_finite(tensor if tensor.dtype == np.float32 else tensor.astype(np.float64))
    refuse_not_finite(where, [not_finite_phrase(name, bad)] if bad else [])
    with np.errstate(over="ignore"):
        stored = tensor.astype(target)
    outcome.n_values += tensor.size
    if tensor.dtype == target:
        return stored
    before, after = (each.astype(np.float64) for each in (tensor, stored))
    if not np.all(np.isfinite(after)):
        raise CheckpointError(
            f"{where}: {name} holds {np.max(np.abs(before)):g}, which {dtype} cannot; the model would compute "
            "something else: give --dtype bfloat16 or float32"
        )
    differing = before != after
    outcome.rounded += int(np.count_nonzero(differing))
    change = float(np.max(np.abs(after - before), initial=0.0))
    if change > outcome.largest:
        outcome.largest, outcome.largest_in = change, name
    return stored


def _index(files: Mapping[str, list[str]], total: int) -> str:
    weight_map = {title: file for file, titles in files.items() for title in titles}
    return json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2, sort_keys=True) + "\n"


def _config(content: bytes, dtype: str | None) -> bytes:
    """`config.json` as it was, but for the dtype that it may say."""
    raw = json.loads(content.decode("utf-8-sig"))
    spelled = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    if dtype is None or all(raw.get(key, spelled[dtype]) == spelled[dtype] for key in ("torch_dtype", "dtype")):
        return content
    return (
        json.dumps(raw | {key: spelled[dtype] for key in ("torch_dtype", "dtype") if key in raw}, indent=2) + "\n"
    ).encode()
