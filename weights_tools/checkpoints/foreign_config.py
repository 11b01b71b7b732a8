"""The configuration of another program's model: what shapes tell, and what a file of settings beside it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2jax.config import GPT2Config
from gpt2jax.errors import ConfigError
from gpt2jax.json_file import parse_json, read_bytes
from gpt2jax.layout import CONFIG_FILE

FILES = (CONFIG_FILE, "hparams.json")
# Hugging Face's key, those of nanoGPT and minGPT (block_size), OpenAI (n_vocab, n_ctx) and TransformerLens.
_KEYS: dict[str, tuple[str, ...]] = {
    "n_layer": ("n_layer", "num_hidden_layers", "n_layers"),
    "n_head": ("n_head", "num_attention_heads", "n_heads"),
    "n_embd": ("n_embd", "hidden_size", "d_model"),
    "n_positions": ("n_positions", "max_position_embeddings", "n_ctx", "block_size"),
    "vocab_size": ("vocab_size", "n_vocab", "d_vocab"),
    "n_inner": ("n_inner", "d_mlp"),
    "activation_function": ("activation_function", "act_fn"),
    "layer_norm_epsilon": ("layer_norm_epsilon", "eps"),
    "scale_attn_weights": ("scale_attn_weights", "use_attn_scale"),
    "scale_attn_by_inverse_layer_idx": ("scale_attn_by_inverse_layer_idx",),
    "bos_token_id": ("bos_token_id",),
    "eos_token_id": ("eos_token_id",),
}
# TransformerLens' switches, and the one setting of each that is a GPT-2.
_ONLY: dict[str, Any] = {
    "normalization_type": "LN",
    "positional_embedding_type": "standard",
    "attention_dir": "causal",
    "attn_only": False,
    "parallel_attn_mlp": False,
    "gated_mlp": False,
    "use_local_attn": False,
    "final_rms": False,
}


def beside(path: Path) -> tuple[Path | None, dict[str, Any]]:
    """The file of settings in a folder, or beside a file, and what it says; nothing where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    folder = path if path.is_dir() else path.parent
    for name in FILES:
        if (folder / name).exists():
            content = read_bytes(folder / name, ConfigError, "give it")
            return folder / name, parse_json(content, folder / name, ConfigError)
    return None, {}


def configuration(
    told: Mapping[str, int], said: Mapping[str, Any], activation: str, where: Path, source: Path | None
) -> GPT2Config:
    """A model's configuration.

    Args:
        told: sizes that shapes tell, by Hugging Face's names.
        said: what a file of settings says, under any program's names.
        activation: what the program computes where that file does not say.
        where: the weights, for messages.
        source: the file of settings, for messages.

    Raises:
        ConfigError: file and shapes contradict each other, the number of heads is nowhere, or the settings are of
            something that a GPT-2 does not compute.
    """
    for key, only in _ONLY.items():
        if said.get(key, only) not in (only, None):
            raise ConfigError(f"{source}: {key} is {said[key]!r}, expected {only!r} of a GPT-2; give such a model")
    given = {
        key: next((said[name] for name in names if said.get(name) is not None), None) for key, names in _KEYS.items()
    }
    for key, size in told.items():
        if given[key] not in (None, size):
            raise ConfigError(
                f"{source}: {key} is {given[key]!r}, but the arrays of {where} make it {size}; give files that belong "
                "together"
            )
    if given["n_head"] is None and "n_head" not in told:
        folder = where if where.is_dir() else where.parent
        raise ConfigError(
            f"{where}: no shape tells how many heads a layer has; write it as "
            f'{{"n_head": N}} into {folder / CONFIG_FILE}, with whatever else differs from GPT-2'
        )
    raw = {key: value for key, value in given.items() if value is not None} | dict(told)
    return GPT2Config.from_hf({"activation_function": activation} | raw, str(source or where))
