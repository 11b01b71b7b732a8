"""What TransformerLens computes on a tiny GPT-2, written to a file; runs where TransformerLens is installed.

    python -m venv lens && lens/bin/pip install transformer_lens==2.16.1
    lens/bin/python tests/parity/transformer_lens_arrays.py tests/parity/transformer_lens.npz

The file holds the model (`model/NAME`, Hugging Face's names; `config`), the tokens, and under `raw/HOOK` and
`folded/HOOK` every value that HookedTransformer caches in float64, as it loads a checkpoint without processing and with
its default processing (fold_ln, center_writing_weights, center_unembed, fold_value_biases).
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2Config, GPT2LMHeadModel

SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 3, "n_embd": 12, "n_positions": 8, "vocab_size": 20, "n_inner": 20}
PROMPTS, TOKENS = 2, 6


def gpt2() -> GPT2LMHeadModel:
    """A random model, sharp enough for its patterns to choose."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SIZES, bos_token_id=0, eos_token_id=0)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            mean, scale = (1.0, 0.3) if ".ln_" in name and name.endswith("weight") else (0.0, 0.5)
            weight.copy_(torch.normal(mean, scale, weight.shape))
    return model


def hooked(model: GPT2LMHeadModel, folded: bool) -> HookedTransformer:
    """The same model as TransformerLens has it."""
    config = HookedTransformerConfig(
        n_layers=SIZES["n_layer"],
        d_model=SIZES["n_embd"],
        n_ctx=SIZES["n_positions"],
        d_head=SIZES["n_embd"] // SIZES["n_head"],
        n_heads=SIZES["n_head"],
        d_mlp=SIZES["n_inner"],
        d_vocab=SIZES["vocab_size"],
        act_fn="gelu_new",
        eps=model.config.layer_norm_epsilon,
        normalization_type="LN",
        original_architecture="GPT2LMHeadModel",
        use_attn_result=True,
        dtype=torch.float64,
    )
    found = HookedTransformer(config)
    weights = {name: each.detach().clone() for name, each in convert_gpt2_weights(model, config).items()}
    switches = ("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases")
    found.load_and_process_state_dict(weights, **dict.fromkeys(switches, folded))
    return found


def main(path: str) -> None:
    model = gpt2()
    tokens = np.random.default_rng(0).integers(0, SIZES["vocab_size"], (PROMPTS, TOKENS))
    held = {f"model/{name}": each.numpy() for name, each in model.state_dict().items() if name != "lm_head.weight"}
    config = {**SIZES, "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "bos_token_id": 0, "eos_token_id": 0}
    held |= {"tokens": tokens.astype(np.int32), "config": np.array(json.dumps(config))}
    double = model.double()
    for processing in ("raw", "folded"):
        logits, cache = hooked(double, processing == "folded").run_with_cache(torch.tensor(tokens))
        held[f"{processing}/logits"] = logits.detach().numpy()
        held |= {f"{processing}/{name}": each.detach().numpy() for name, each in cache.items()}
    np.savez_compressed(path, **held)


if __name__ == "__main__":
    main(sys.argv[1])
