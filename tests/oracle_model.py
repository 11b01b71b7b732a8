"""A model of the package as the oracle has it."""

from __future__ import annotations

import numpy as np

import gpt2jax


def oracle_model(model: gpt2jax.Model) -> tuple[dict, dict]:
    """A raw model's arrays in float64 under the oracle's names, and its configuration."""
    params, config = model.params, model.config
    arrays = {name: value for name, value in vars(params.blocks).items() if not name.startswith("ln")}
    for name in ("ln1", "ln2"):
        norm = getattr(params.blocks, name)
        arrays |= {f"{name}_w": norm.w, f"{name}_b": norm.b}
    arrays |= {"ln_final_w": params.ln_final.w, "ln_final_b": params.ln_final.b}
    arrays |= {"W_E": params.W_E, "W_pos": params.W_pos}
    arrays["W_U"] = params.W_E.T if params.W_U is None else params.W_U
    arrays["b_U"] = np.zeros(config.d_vocab) if params.b_U is None else params.b_U
    names = ("n_layers", "n_heads", "d_model", "d_mlp", "activation", "scale_attn_weights")
    sizes = {name: getattr(config, name) for name in (*names, "scale_attn_by_inverse_layer_idx")}
    return (
        {name: np.asarray(value, np.float64) for name, value in arrays.items()},
        {**sizes, "eps": config.layer_norm_epsilon},
    )
