"""Hugging Face GPT-2 folders, written with the library `safetensors` alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

CONFIG: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_layer": 3,
    "n_head": 2,
    "n_embd": 8,
    "n_inner": 12,
    "n_positions": 7,
    "vocab_size": 11,
    "bos_token_id": 10,
    "eos_token_id": 10,
}
NUMPY_DTYPES = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}


def tensors(config: dict[str, Any] = CONFIG, dtype: str = "F32", prefix: str = "transformer.") -> dict[str, np.ndarray]:
    """Random tensors under GPT-2's names, shapes written out anew."""
    d, inner = config["n_embd"], config["n_inner"]
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (config["vocab_size"], d),
        "wpe.weight": (config["n_positions"], d),
    }
    for layer in range(config["n_layer"]):
        block = {
            "ln_1.weight": (d,),
            "ln_1.bias": (d,),
            "attn.c_attn.weight": (d, 3 * d),
            "attn.c_attn.bias": (3 * d,),
            "attn.c_proj.weight": (d, d),
            "attn.c_proj.bias": (d,),
            "ln_2.weight": (d,),
            "ln_2.bias": (d,),
            "mlp.c_fc.weight": (d, inner),
            "mlp.c_fc.bias": (inner,),
            "mlp.c_proj.weight": (inner, d),
            "mlp.c_proj.bias": (d,),
        }
        shapes |= {f"h.{layer}.{name}": shape for name, shape in block.items()}
    shapes |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    random = np.random.default_rng(0)
    return {
        prefix + name: random.standard_normal(shape, np.float32).astype(NUMPY_DTYPES[dtype])
        for name, shape in shapes.items()
    }


def write_folder(
    folder: Path,
    weights: dict[str, np.ndarray] | None = None,
    config: dict[str, Any] | None = None,
    n_shards: int | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write `config.json` and the weights, as one file or as shards with their index."""
    weights = tensors() if weights is None else weights
    metadata = {"format": "pt"} if metadata is None else metadata
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config, indent=2) + "\n")
    if n_shards is None:
        save_file(weights, folder / "model.safetensors", metadata)
        return folder
    weight_map = {}
    for shard in range(n_shards):
        file = f"model-{shard + 1:05}-of-{n_shards:05}.safetensors"
        part = {name: weights[name] for name in list(weights)[shard::n_shards]}
        save_file(part, folder / file, metadata)
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in weights.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    return folder
