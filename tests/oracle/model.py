"""The model itself, one prompt at a time in float64: forward pass and folding (METHOD.md, section 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Params = dict[str, np.ndarray]
Config = Mapping[str, Any]
Acts = dict[str, np.ndarray]

_tanh_gelu_scale = math.sqrt(2.0 / math.pi)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "gelu_new": lambda x: 0.5 * x * (1.0 + np.tanh(_tanh_gelu_scale * (x + 0.044715 * x**3))),
    "gelu_pytorch_tanh": lambda x: 0.5 * x * (1.0 + np.tanh(_tanh_gelu_scale * (x + 0.044715 * x**3))),
    "gelu_fast": lambda x: 0.5 * x * (1.0 + np.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
    "gelu": lambda x: x * 0.5 * (1.0 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2.0))),
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
}
"""The activations, under the names that Hugging Face's `ACT2FN` gives them."""


def float64(params: Mapping[str, Any]) -> Params:
    """A copy of the parameters in float64; `W_U` and `b_U` are made from `W_E` and zeros where they are absent."""
    result = {name: np.array(value, dtype=np.float64) for name, value in params.items()}
    result.setdefault("W_U", result["W_E"].T.copy())
    result.setdefault("b_U", np.zeros(result["W_U"].shape[1]))
    return result


def is_folded(params: Params) -> bool:
    """Whether these are parameters without γ and β, as `fold` returns them."""
    return "ln_final_w" not in params


def norm_parameters(params: Params, name: str, layer: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """γ and β [d_model] of one LayerNorm (`ln1`, `ln2`, `ln_final`); ones and zeros in a folded model."""
    if is_folded(params):
        d_model = params["W_E"].shape[1]
        return np.ones(d_model), np.zeros(d_model)
    gamma, beta = params[f"{name}_w"], params[f"{name}_b"]
    return (gamma, beta) if layer is None else (gamma[layer], beta[layer])


def centre(rows: np.ndarray) -> np.ndarray:
    """`rows C`: the mean over the last axis taken away."""
    return rows - rows.mean(axis=-1, keepdims=True)


def attn_scale(config: Config, layer: int) -> float:
    """What multiplies q·k: 1/√h unless `scale_attn_weights` is false, over layer + 1 where the config says so."""
    d_head = config["d_model"] // config["n_heads"]
    scale = 1.0 / math.sqrt(d_head) if config.get("scale_attn_weights", True) else 1.0
    return scale / (layer + 1) if config.get("scale_attn_by_inverse_layer_idx", False) else scale


def normalize(
    params: Params, config: Config, name: str, layer: int | None, resid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The LayerNorm scale s [tok] of a residual [tok d_model] and what a reader sees of it, x [tok d_model]."""
    scale = np.sqrt(resid.var(axis=-1) + config["eps"])
    if is_folded(params):
        return scale, resid / scale[:, None]
    gamma, beta = norm_parameters(params, name, layer)
    return scale, gamma * centre(resid) / scale[:, None] + beta


def attend(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One head's causal attention: scores and pattern [dest src], z [tok d_head]; scores of later tokens are -inf."""
    n_tokens = len(q)
    scores = np.full((n_tokens, n_tokens), -np.inf)
    pattern = np.zeros((n_tokens, n_tokens))
    z = np.zeros_like(v)
    for dest in range(n_tokens):
        scores[dest, : dest + 1] = seen = k[: dest + 1] @ q[dest] * scale
        weights = np.exp(seen - seen.max())
        pattern[dest, : dest + 1] = weights / weights.sum()
        z[dest] = pattern[dest, : dest + 1] @ v[: dest + 1]
    return scores, pattern, z


def block(params: Params, config: Config, layer: int, resid_pre: np.ndarray) -> Acts:
    """Every intermediate of one layer: `q`, `k`, `v`, `z`, `head_out` [tok head …], `scores`, `pattern` head first."""
    scale, x = normalize(params, config, "ln1", layer, resid_pre)
    acts: Acts = {"resid_pre": resid_pre, "ln1_scale": scale, "ln1_x": x}
    heads: dict[str, list[np.ndarray]] = {name: [] for name in ("q", "k", "v", "z", "head_out", "scores", "pattern")}
    for head in range(config["n_heads"]):
        q, k, v = (x @ params[f"W_{name}"][layer, head] + params[f"b_{name}"][layer, head] for name in "QKV")
        scores, pattern, z = attend(q, k, v, attn_scale(config, layer))
        head_out = z @ params["W_O"][layer, head]
        for name, value in (("q", q), ("k", k), ("v", v), ("z", z), ("head_out", head_out)):
            heads[name].append(value)
        heads["scores"].append(scores)
        heads["pattern"].append(pattern)
    for name, values in heads.items():
        acts[name] = np.stack(values, axis=0 if name in ("scores", "pattern") else 1)
    acts["attn_out"] = acts["head_out"].sum(axis=1) + params["b_O"][layer]
    acts["resid_mid"] = resid_pre + acts["attn_out"]
    acts["ln2_scale"], acts["ln2_x"] = normalize(params, config, "ln2", layer, acts["resid_mid"])
    acts["mlp_pre"] = acts["ln2_x"] @ params["W_in"][layer] + params["b_in"][layer]
    acts["mlp_post"] = ACTIVATIONS[config["activation"]](acts["mlp_pre"])
    acts["mlp_out"] = acts["mlp_post"] @ params["W_out"][layer] + params["b_out"][layer]
    acts["resid_post"] = acts["resid_mid"] + acts["mlp_out"]
    return acts


def forward(
    params: Mapping[str, Any], config: Config, tokens: Sequence[int], positions: Sequence[int] | None = None
) -> Acts:
    """Every intermediate of one prompt, raw or folded according to the parameters.

    Returns:
        `embed`, `pos` [tok d_model]; with the layer in front `resid_pre`, `ln1_scale` [layer tok], `ln1_x` (what the
        heads read), `q`, `k`, `v`, `z` [layer tok head d_head], `scores`, `pattern` [layer head dest src], `head_out`
        [layer tok head d_model] (no b_O), `attn_out`, `resid_mid`, `ln2_scale`, `ln2_x`, `mlp_pre`, `mlp_post`,
        `mlp_out`, `resid_post`; then `ln_final_scale` [tok], `ln_final_x`, `logits` [tok vocab].
    """
    params = float64(params)
    places = range(len(tokens)) if positions is None else positions
    embed, pos = params["W_E"][list(tokens)], params["W_pos"][list(places)]
    resid = embed + pos
    layers: list[Acts] = []
    for layer in range(config["n_layers"]):
        layers.append(block(params, config, layer, resid))
        resid = layers[-1]["resid_post"]
    acts = {name: np.stack([layer[name] for layer in layers]) for name in layers[0]}
    acts |= {"embed": embed, "pos": pos}
    acts["ln_final_scale"], acts["ln_final_x"] = normalize(params, config, "ln_final", None, resid)
    acts["logits"] = acts["ln_final_x"] @ params["W_U"] + params["b_U"]
    return acts


def fold(params: Mapping[str, Any]) -> Params:
    """The equivalent parameters without γ and β (METHOD.md, section 1, steps 1 to 4); a folded model stays as it is."""
    params = float64(params)
    folded = {name: value for name, value in params.items() if not name.startswith("ln")}
    for layer in range(len(params["W_Q"])):
        gamma, beta = norm_parameters(params, "ln1", layer)
        for name in "QKV":
            for head in range(params["W_Q"].shape[1]):
                weight = params[f"W_{name}"][layer, head]
                folded[f"b_{name}"][layer, head] += beta @ weight
                folded[f"W_{name}"][layer, head] = centre((gamma[:, None] * weight).T).T
        gamma, beta = norm_parameters(params, "ln2", layer)
        folded["b_in"][layer] += beta @ params["W_in"][layer]
        folded["W_in"][layer] = centre((gamma[:, None] * params["W_in"][layer]).T).T
    gamma, beta = norm_parameters(params, "ln_final")
    folded["b_U"] = params["b_U"] + beta @ params["W_U"]
    folded["W_U"] = centre((gamma[:, None] * params["W_U"]).T).T
    for name in ("W_E", "W_pos", "W_O", "b_O", "W_out", "b_out"):
        folded[name] = centre(params[name])
    folded["W_U"], folded["b_U"] = centre(folded["W_U"]), centre(folded["b_U"])
    for layer in range(len(params["W_O"])):
        for head in range(params["W_O"].shape[1]):
            folded["b_O"][layer] += folded["b_V"][layer, head] @ folded["W_O"][layer, head]
    folded["b_V"] = np.zeros_like(folded["b_V"])
    return folded


def random_model(seed: int = 0, sharpness: float = 1.0, **changes: Any) -> tuple[Params, dict[str, Any]]:
    """A small random raw model, every parameter non-trivial, and its config; `sharpness` scales W_Q and W_K."""
    config: dict[str, Any] = {
        "n_layers": 4,
        "n_heads": 3,
        "d_model": 12,
        "d_mlp": 20,
        "n_ctx": 16,
        "d_vocab": 23,
        "eps": 1e-5,
        "activation": "gelu_new",
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
    } | changes
    rng = np.random.default_rng(seed)
    L, H, d, m, v = (config[name] for name in ("n_layers", "n_heads", "d_model", "d_mlp", "d_vocab"))
    h = d // H
    shapes: dict[str, tuple[int, ...]] = {"W_E": (v, d), "W_pos": (config["n_ctx"], d), "W_U": (d, v), "b_U": (v,)}
    shapes |= {f"W_{name}": (L, H, d, h) for name in "QKV"} | {f"b_{name}": (L, H, h) for name in "QKV"}
    shapes |= {
        "W_O": (L, H, h, d),
        "b_O": (L, d),
        "W_in": (L, d, m),
        "b_in": (L, m),
        "W_out": (L, m, d),
        "b_out": (L, d),
    }
    params = {
        name: rng.normal(size=shape) / np.sqrt(shape[-2] if name[0] == "W" else 4) for name, shape in shapes.items()
    }
    params["W_E"], params["W_pos"] = params["W_E"] * np.sqrt(v), params["W_pos"] * np.sqrt(config["n_ctx"])
    params["W_Q"], params["W_K"] = sharpness * params["W_Q"], sharpness * params["W_K"]
    for name, shape in (("ln1", (L, d)), ("ln2", (L, d)), ("ln_final", (d,))):
        params[f"{name}_w"], params[f"{name}_b"] = 1 + 0.3 * rng.normal(size=shape), 0.3 * rng.normal(size=shape)
    return params, config
