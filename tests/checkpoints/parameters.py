"""Parameters of a model by name, beside those that the file holds."""

from __future__ import annotations

import jax
import numpy as np

import gpt2jax
from checkpoints.folders import CONFIG

L, H, D, E, T, V = (CONFIG[key] for key in ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size"))


def expected_parameters(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters by dotted name, cut out of the tensors index by index."""
    plain = {name.removeprefix("transformer."): np.asarray(tensor, np.float32) for name, tensor in weights.items()}
    h = D // H
    expected = {"W_E": plain["wte.weight"], "W_pos": plain["wpe.weight"]}
    expected |= {"ln_final.w": plain["ln_f.weight"], "ln_final.b": plain["ln_f.bias"]}
    straight = {
        "ln1.w": "ln_1.weight",
        "ln1.b": "ln_1.bias",
        "ln2.w": "ln_2.weight",
        "ln2.b": "ln_2.bias",
        "b_O": "attn.c_proj.bias",
        "W_in": "mlp.c_fc.weight",
        "b_in": "mlp.c_fc.bias",
        "W_out": "mlp.c_proj.weight",
        "b_out": "mlp.c_proj.bias",
    }
    for field, name in straight.items():
        expected[f"blocks.{field}"] = np.stack([plain[f"h.{layer}.{name}"] for layer in range(L)])
    for index, letter in enumerate("QKV"):
        W, b = np.empty((L, H, D, h), np.float32), np.empty((L, H, h), np.float32)
        for layer in range(L):
            for head in range(H):
                columns = range(index * D + head * h, index * D + (head + 1) * h)
                W[layer, head] = plain[f"h.{layer}.attn.c_attn.weight"][:, columns]
                b[layer, head] = plain[f"h.{layer}.attn.c_attn.bias"][columns]
        expected |= {f"blocks.W_{letter}": W, f"blocks.b_{letter}": b}
    W_O = np.empty((L, H, h, D), np.float32)
    for layer in range(L):
        for head in range(H):
            W_O[layer, head] = plain[f"h.{layer}.attn.c_proj.weight"][head * h : (head + 1) * h]
    return expected | {"blocks.W_O": W_O}


def parameters(model: gpt2jax.Model) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(model.params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
