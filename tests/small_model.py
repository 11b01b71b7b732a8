"""A small model with every parameter non-trivial and every axis of its own size, for the package and for the oracle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import oracle

import gpt2jax

Arrays = dict[str, np.ndarray]


def small_model(seed: int = 0, *, tied: bool = False, **changes: Any) -> tuple[Arrays, dict[str, Any]]:
    """Parameters and configuration as the oracle has them; values are float32's, so that both have the same."""
    params, config = oracle.random_model(seed, **{"n_layers": 2, **changes})
    if tied:
        # An embedding that is read as well as written, at the size that the unembedding would have had.
        params["W_E"] = params["W_E"] / np.sqrt(config["d_model"])
        del params["W_U"], params["b_U"]
    return {name: value.astype(np.float32) for name, value in params.items()}, config


def jax_model(params: Mapping[str, np.ndarray], config: Mapping[str, Any], dtype: Any = None) -> gpt2jax.Model:
    """The same model as the package has it, raw or folded according to the parameters."""
    arrays = {name: jnp.array(value, dtype or jnp.float32) for name, value in params.items()}  # copies

    def norm(name: str) -> gpt2jax.LayerNorm | None:
        return gpt2jax.LayerNorm(arrays[f"{name}_w"], arrays[f"{name}_b"]) if f"{name}_w" in arrays else None

    matrices = [f"{kind}_{name}" for name in ("Q", "K", "V", "O", "in", "out") for kind in "Wb"]
    blocks = gpt2jax.Blocks(ln1=norm("ln1"), ln2=norm("ln2"), **{name: arrays[name] for name in matrices})
    shape = {name: value for name, value in config.items() if name != "eps"}
    return gpt2jax.Model(
        config=gpt2jax.GPT2Config(**shape, layer_norm_epsilon=config["eps"]),
        params=gpt2jax.Params(
            W_E=arrays["W_E"],
            W_pos=arrays["W_pos"],
            blocks=blocks,
            ln_final=norm("ln_final"),
            W_U=arrays.get("W_U"),
            b_U=arrays.get("b_U"),
        ),
        processing="raw" if "ln_final_w" in arrays else "folded",
    )


def random_tokens(n_prompts: int, n_tokens: int, config: Mapping[str, Any], seed: int = 0) -> np.ndarray:
    """Token ids [prompt tok]."""
    return np.random.default_rng(seed).integers(0, config["d_vocab"], (n_prompts, n_tokens)).astype(np.int32)
