"""A tiny GPT-2 in Hugging Face's implementation and in ours: all values, and what may lie between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import GPT2LMHeadModel
from transformers.activations import ACT2CLS

import gpt2jax
from gpt2jax.activations import ACTIVATIONS
from parity.error_bound import error_bound, rounding_errors, sensitivities
from parity.hugging_face import run, tiny_model

TAPS = {
    "resid_pre": "blocks.*.hook_resid_pre",
    "q": "blocks.*.attn.hook_q",
    "k": "blocks.*.attn.hook_k",
    "v": "blocks.*.attn.hook_v",
    "pattern": "blocks.*.attn.hook_pattern",
    "z": "blocks.*.attn.hook_z",
    "resid_mid": "blocks.*.hook_resid_mid",
    "resid_post": "blocks.*.hook_resid_post",
    "final": "ln_final.hook_normalized",
}
OUTPUTS = (*TAPS, "logits")
# What rounding is added to; the last steps, pattern and logits, have nothing after them.
STEPS = ("read1", "qkv", "mixed", "attn_out", "read2", "pre", "post", "mlp_out")
QUICK_ACTIVATIONS = ("gelu_new", "gelu_fast", "gelu", "relu", "silu", "tanh")
MORE_ACTIVATIONS = sorted(ACTIVATIONS.keys() & ACT2CLS.keys() - set(QUICK_ACTIVATIONS))
SWITCHES: dict[str, dict[str, Any]] = {
    **{name: {"activation_function": name} for name in QUICK_ACTIVATIONS},
    "inner width": {"n_inner": 24},
    "unscaled": {"scale_attn_weights": False},
    "scaled by layer": {"scale_attn_by_inverse_layer_idx": True},
    "scaled by layer alone": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "reordered": {"reorder_and_upcast_attn": True, "scale_attn_by_inverse_layer_idx": True},
    "epsilon": {"layer_norm_epsilon": 0.1},
    "untied": {"tie_word_embeddings": False},
    "three layers": {"n_layer": 3, "n_head": 2},
}
# A full prompt, two padded on the right, two on the left, whose positions count real tokens.
MASK = np.array(
    [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 1, 1]], bool
)
POSITIONS = np.maximum(np.cumsum(MASK, axis=1) - 1, 0)
TOKENS = np.random.default_rng(1).integers(0, 20, MASK.shape)


def theirs(
    model: GPT2LMHeadModel, positions: np.ndarray | None = POSITIONS, off: dict | None = None
) -> dict[str, list]:
    where = None if positions is None else torch.tensor(positions)
    return run(model, torch.tensor(TOKENS), torch.tensor(MASK), where, off)


def arrays(values: dict[str, list]) -> dict[str, np.ndarray]:
    """Layers stacked in front, where a value has layers."""
    stacked = {name: np.stack([each.detach().numpy() for each in value]) for name, value in values.items()}
    return stacked | {name: stacked[name][0] for name in ("embedded", "final", "logits")}


def ours(model: gpt2jax.Model, positions: np.ndarray | None = POSITIONS) -> dict[str, np.ndarray]:
    out = gpt2jax.forward(
        model,
        jnp.asarray(TOKENS, jnp.int32),
        mask=jnp.asarray(MASK),
        positions=None if positions is None else jnp.asarray(positions, jnp.int32),
        taps=list(TAPS.values()),
    )
    return {name: np.asarray(out.taps[tap]) for name, tap in TAPS.items()} | {"logits": np.asarray(out.logits)}


def ours_in(dtype: str, folder: Path) -> dict[str, np.ndarray]:
    with jax.enable_x64(dtype == "float64"):
        model = gpt2jax.load(folder)
        return ours(model.replace(params=jax.tree.map(lambda w: w.astype(dtype), model.params)))


def bounds_at(*machine_epsilons: float, model: GPT2LMHeadModel) -> list[dict[str, np.ndarray]]:
    """Bounds of the errors of all outputs, for each machine epsilon. `model` is in float64."""
    config = model.config
    values = arrays(theirs(model))
    base = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
    by_layer = config.scale_attn_by_inverse_layer_idx
    scales = [base / (layer + 1) if by_layer else base for layer in range(config.n_layer)]
    weights = {name.removeprefix("transformer."): w.numpy() for name, w in model.state_dict().items()}
    errors = [
        rounding_errors(weights, values, scales, config.layer_norm_epsilon, config.activation_function, eps)
        for eps in machine_epsilons
    ]
    steps = {f"{name}.{layer}": (name, layer) for layer in range(config.n_layer) for name in STEPS}
    by_step = [
        {step: each[name][layer] for step, (name, layer) in steps.items()}
        | {"embedded.0": each["embedded"], "final.0": each["final"]}
        for each in errors
    ]
    off = {
        step: torch.zeros(error.shape, dtype=torch.float64, requires_grad=True) for step, error in by_step[0].items()
    }
    outputs = theirs(model, off=off)
    bounds: list[dict[str, np.ndarray]] = [{} for _ in errors]
    for name in OUTPUTS:
        found = [sensitivities(output, off) for output in outputs[name]]
        for each, step_errors, bound in zip(errors, by_step, bounds, strict=True):
            shape = tuple(outputs[name][0].shape)
            stacked = np.stack([error_bound(one, step_errors, shape) for one in found])
            bound[name] = stacked if name in TAPS and "*" in TAPS[name] else stacked[0]
            if name in ("pattern", "logits"):
                bound[name] = bound[name] + each[name]
    return bounds


def at_real_tokens(name: str, value: np.ndarray) -> np.ndarray:
    """The value at real tokens, a pattern's being its destinations; zero elsewhere."""
    prompt = 1 if name in TAPS and "*" in TAPS[name] else 0
    tok = prompt + 2 if name == "pattern" else prompt + 1
    shape = [size if axis in (prompt, tok) else 1 for axis, size in enumerate(value.shape)]
    return np.where(MASK.reshape(shape), value, 0)


def at_two_precisions(folder: Path, switches: dict[str, Any]) -> dict[str, tuple[dict[str, np.ndarray], ...]]:
    """By dtype: our values of a model under some switches, theirs, and the bounds of either's errors."""
    model = tiny_model(**switches)
    model.save_pretrained(folder)
    single = arrays(theirs(model))
    for block in model.transformer.h:
        # The same in exact arithmetic, but it insists on float32.
        block.attn.reorder_and_upcast_attn = False
    double = arrays(theirs(model.double()))
    eps = {dtype: float(np.finfo(dtype).eps) for dtype in ("float32", "float64")}
    bounds = dict(zip(eps, bounds_at(*eps.values(), model=model), strict=True))
    return {
        dtype: (ours_in(dtype, folder), values, bounds[dtype])
        for dtype, values in zip(eps, (single, double), strict=True)
    }


def differences(
    found: dict[str, np.ndarray], expected: dict[str, np.ndarray], bounds: dict[str, np.ndarray]
) -> dict[str, tuple[float, float, float]]:
    """By output: the largest difference, and where it comes nearest to what is allowed, which is twice the bound since
    either pass may be off by that: the share of it.
    """
    shares = {}
    for name in OUTPUTS:
        assert found[name].shape == expected[name].shape, name
        difference = at_real_tokens(name, np.abs(found[name].astype(np.float64) - expected[name]))
        allowed = 2 * bounds[name]
        share = np.divide(difference, allowed, out=np.where(difference > 0, np.inf, 0.0), where=allowed > 0)
        shares[name] = float(difference.max()), float(allowed.max()), float(share.max())
    return shares
