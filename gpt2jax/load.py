"""From a source to a model, and from a model to a folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from gpt2jax.checkpoint import read_checkpoint
from gpt2jax.checkpoint_write import write_checkpoint
from gpt2jax.config import GPT2Config, is_tied, lacks_lm_head
from gpt2jax.errors import ConfigError, ProcessingError
from gpt2jax.fold import fold
from gpt2jax.hub import find_model
from gpt2jax.json_file import parse_json, read_bytes
from gpt2jax.layout import CONFIG_FILE, Layout, Origin
from gpt2jax.new_folder import new_folder
from gpt2jax.params import Model
from gpt2jax.tokenizer import Tokenizer
from gpt2jax.weight_files import ADAPTER_ALONE, ADAPTER_CONFIG

_PROCESSINGS = ("raw", "folded")


def load(
    source: str | Path,
    processing: str = "raw",
    revision: str | None = None,
    parts: str | Collection[str] | None = None,
) -> Model:
    """Load a GPT-2 in Hugging Face's format.

    Args:
        source: a folder, or a hub id (`gpt2`, `gpt2@REVISION`), fetched into huggingface_hub's cache. A folder, or
            `HF_HUB_OFFLINE=1`, never touches the network. Pickle files are never opened.
        processing: `"raw"`, the weights as they are, or `"folded"` (METHOD.md, section 1).
        revision: branch, tag or commit of a hub id.
        parts: what is needed: one or several of `embed`, `heads`, `mlp`, `positions`, `unembed`; the rest may be absent
            from the folder and is not read, its parameters are `None`. `heads` is `ln_1` and `attn`, `positions` what
            `embed` has of positions. Default: everything.

    Returns:
        The model, with float32 parameters; `tokenizer` is `None` for a folder without one. `origin.notes` says what of
        the checkpoint was left out (heads beside GPT-2's own) or understood (a wrapper's prefix), `origin.commit` which
        commit a hub id was.

    Raises:
        SourceError: no such folder or hub id, or the hub cannot be reached.
        ConfigError: a `config.json` that is damaged, incomplete, or no GPT-2's.
        CheckpointError: weights that are missing, damaged, not finite, or do not fit the configuration.
        TokenizerError: tokenizer files that are damaged.
        ProcessingError, InputError: an unknown `processing`, an unknown part.
    """
    if processing not in _PROCESSINGS:
        raise ProcessingError(f"processing is {processing!r}, expected raw or folded; name one of them")
    found = find_model(source, revision)
    folder, where = found.folder, found.folder / CONFIG_FILE
    content, raw, config = read_config(folder)
    tokenizer = Tokenizer.read(folder, config)
    read = read_checkpoint(folder, config, tied=is_tied(raw, str(where)), headless=lacks_lm_head(raw), parts=parts)
    model = Model(
        config=config,
        params=read.params,
        tokenizer=tokenizer,
        processing="raw",
        layout=Layout(content, read.index, read.files),
        origin=Origin(found.hub_id, found.revision, found.commit, read.notes),
    )
    return fold(model) if processing == "folded" else model


def read_config(folder: Path) -> tuple[bytes, dict[str, Any], GPT2Config]:
    """A folder's `config.json`: its content, what it says, and what that means.

    Raises:
        ConfigError: it is missing, damaged, incomplete, or no GPT-2's.
    """
    where = folder / CONFIG_FILE
    if not where.exists() and (folder / ADAPTER_CONFIG).exists():
        raise ConfigError(f"{folder}: {ADAPTER_ALONE}")
    content = read_bytes(where, ConfigError, "give a Hugging Face GPT-2 folder, with its config.json")
    raw = parse_json(content, where, ConfigError)
    return content, raw, GPT2Config.from_hf(raw, str(where))


def save(model: Model, folder: str | Path) -> None:
    """Write a model as a Hugging Face GPT-2 folder.

    A model that was loaded is written as it was, bit for bit for what was read: tensor names, dtypes, shards,
    `config.json`, tokenizer files (causal masks and other heads than the LM head were not read). A model made in Python
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
    with new_folder(folder) as aside:
        write_checkpoint(model, aside)
        if model.tokenizer is not None:
            model.tokenizer.save(aside)
