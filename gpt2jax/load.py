"""From a source to a model, and from a model to a folder."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Collection
from pathlib import Path

from gpt2jax.checkpoint import read_checkpoint
from gpt2jax.checkpoint_write import write_checkpoint
from gpt2jax.config import GPT2Config, is_tied
from gpt2jax.errors import ConfigError, OutputError, ProcessingError
from gpt2jax.fold import fold
from gpt2jax.hub import model_folder
from gpt2jax.json_file import parse_json, read_bytes
from gpt2jax.layout import CONFIG_FILE, Layout
from gpt2jax.params import Model
from gpt2jax.tokenizer import Tokenizer

_PROCESSINGS = ("raw", "folded")


def load(
    source: str | Path,
    processing: str = "raw",
    revision: str | None = None,
    parts: str | Collection[str] | None = None,
) -> Model:
    """Load a GPT-2 in Hugging Face's format.

    Args:
        source: a folder, or a hub id (`gpt2`), fetched into huggingface_hub's cache. A folder, or `HF_HUB_OFFLINE=1`,
            never touches the network. Pickle files are never opened.
        processing: `"raw"`, the weights as they are, or `"folded"` (METHOD.md, section 1).
        revision: branch, tag or commit of a hub id.
        parts: what is needed: one or several of `embed`, `heads`, `mlp`, `unembed`; the rest may be absent from the
            folder and is not read, its parameters are `None`. `heads` is `ln_1` and `attn`. Default: everything.

    Returns:
        The model, with float32 parameters; `tokenizer` is `None` for a folder without one.

    Raises:
        SourceError: no such folder or hub id, or the hub cannot be reached.
        ConfigError: a `config.json` that is damaged, incomplete, or no GPT-2's.
        CheckpointError: weights that are missing, damaged, or do not fit the configuration.
        TokenizerError: tokenizer files that are damaged.
        ProcessingError, InputError: an unknown `processing`, an unknown part.
    """
    if processing not in _PROCESSINGS:
        raise ProcessingError(f"processing is {processing!r}, expected raw or folded; name one of them")
    folder = model_folder(source, revision)
    where = folder / CONFIG_FILE
    content = read_bytes(where, ConfigError, "give a Hugging Face GPT-2 folder, with its config.json")
    raw = parse_json(content, where, ConfigError)
    config = GPT2Config.from_hf(raw, str(where))
    tokenizer = Tokenizer.read(folder, config)
    params, files, index = read_checkpoint(folder, config, tied=is_tied(raw, str(where)), parts=parts)
    model = Model(
        config=config,
        params=params,
        tokenizer=tokenizer,
        processing="raw",
        layout=Layout(content, index, files),
    )
    return fold(model) if processing == "folded" else model


def save(model: Model, folder: str | Path) -> None:
    """Write a model as a Hugging Face GPT-2 folder.

    A model that was loaded is written as it was, bit for bit for what was read: tensor names, dtypes, shards,
    `config.json`, tokenizer files (the causal masks that old checkpoints carry were not read). A model made in Python
    is written in float32, under the names that Hugging Face's GPT2LMHeadModel uses.

    Args:
        model: a raw model with all its parameters.
        folder: a new or empty folder; it appears there complete or not at all.

    Raises:
        ProcessingError: the model is folded, which that format cannot say.
        CheckpointError: parameters that are missing or do not fit.
        OutputError: the folder is not empty or cannot be written.
    """
    if model.processing != "raw":
        reason = f"{folder}: the model is {model.processing}, but a checkpoint holds raw weights"
        raise ProcessingError(f"{reason}; save the model that was loaded with processing='raw'")
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists and is not an empty folder; give a new one")
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        write_checkpoint(model, aside)
        if model.tokenizer is not None:
            model.tokenizer.save(aside)
        aside.replace(folder)
    except OSError as failure:
        raise OutputError(f"{folder}: cannot be written ({failure.strerror}); give another folder") from failure
    finally:
        shutil.rmtree(aside, ignore_errors=True)
