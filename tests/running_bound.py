"""How far rounding can carry a forward pass from the oracle's: the bounds of all steps, run alongside it.

Each value's bound is what the bounds of its inputs become by the step's own derivative, plus what the step rounds from
exact inputs (Higham, Accuracy and Stability of Numerical Algorithms, section 3.3), to first order, with eps the machine
epsilon, twice the unit roundoff: the spare factor takes up what is of higher order. It knows nothing of cancellation
between paths, so that it overestimates by some orders of magnitude; in float64 it is still far below any mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import oracle
from oracle.model import float64, norm_parameters

Arrays = dict[str, np.ndarray]

EPS32, EPS64 = (float(np.finfo(dtype).eps) for dtype in (np.float32, np.float64))
ACTIVATION_SLOPE = 1.13  # GELU's largest; SiLU's is 1.10, that of the others 1
GELU_FAST_CONSTANT = 4e-12  # it writes sqrt(2/π) with ten digits


class RunningBound:
    """Bounds of one prompt's pass.

    Args:
        params, config, acts: the model, and what `oracle.forward` gave for the prompt.
        eps: machine epsilon of the pass that is to be judged.
        off: how far each parameter of that pass may be from `params`, by name; nothing by default.
    """

    def __init__(
        self,
        params: Mapping[str, np.ndarray],
        config: Mapping[str, Any],
        acts: Arrays,
        eps: float,
        off: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.params, self.config, self.acts, self.eps = float64(params), config, acts, eps
        self.off = {name: np.zeros_like(value) for name, value in self.params.items()} | dict(off or {})

    def bounds(self) -> Arrays:
        """Bounds under the names of `oracle.forward`."""
        embed = self.off["W_E"].max(axis=0) + 0 * self.acts["embed"]
        pos = self.off["W_pos"].max(axis=0) + 0 * self.acts["pos"]
        resid = embed + pos + self.eps * np.abs(self.acts["resid_pre"][0])
        layers = []
        for layer in range(self.config["n_layers"]):
            layers.append(self.block(layer, resid))
            resid = layers[-1]["resid_post"]
        found = {name: np.stack([each[name] for each in layers]) for name in layers[0]}
        found |= {"embed": embed, "pos": pos}
        found["ln_final_scale"], found["ln_final_x"] = self.layer_norm(
            self.acts["resid_post"][-1], resid, "ln_final", None
        )
        found["logits"] = self.linear(self.acts["ln_final_x"], found["ln_final_x"], "U", ())
        return found

    def block(self, layer: int, resid: np.ndarray) -> Arrays:
        at = {name: value[layer] for name, value in self.acts.items() if name in BLOCK_VALUES}
        found = {"resid_pre": resid}
        found["ln1_scale"], found["ln1_x"] = self.layer_norm(at["resid_pre"], resid, "ln1", layer)
        heads = [self.head(layer, head, at, found["ln1_x"]) for head in range(self.config["n_heads"])]
        for name in heads[0]:
            axis = 0 if name in ("scores", "pattern") else 1
            found[name] = np.stack([each[name] for each in heads], axis=axis)
        terms = np.abs(at["head_out"]).sum(axis=1) + np.abs(self.params["b_O"][layer])
        summed = found["head_out"].sum(axis=1) + self.off["b_O"][layer]
        found["attn_out"] = summed + (self.config["n_heads"] + 1) * self.eps * terms
        found["resid_mid"] = resid + found["attn_out"] + self.eps * np.abs(at["resid_mid"])
        found["ln2_scale"], found["ln2_x"] = self.layer_norm(at["resid_mid"], found["resid_mid"], "ln2", layer)
        found["mlp_pre"] = self.linear(at["ln2_x"], found["ln2_x"], "in", (layer,))
        constant = GELU_FAST_CONSTANT if self.config["activation"] == "gelu_fast" else 0.0
        found["mlp_post"] = ACTIVATION_SLOPE * found["mlp_pre"] + (16 * self.eps + constant) * np.abs(at["mlp_pre"])
        found["mlp_out"] = self.linear(at["mlp_post"], found["mlp_post"], "out", (layer,))
        found["resid_post"] = found["resid_mid"] + found["mlp_out"] + self.eps * np.abs(at["resid_post"])
        return found

    def head(self, layer: int, head: int, at: Arrays, read: np.ndarray) -> Arrays:
        found = {name: self.linear(at["ln1_x"], read, name.upper(), (layer, head)) for name in "qkv"}
        q, k, v = (np.abs(at[name][:, head]) for name in "qkv")
        scale, eps = oracle.attn_scale(self.config, layer), self.eps
        score = scale * (found["q"] @ k.T + q @ found["k"].T) + (q.shape[1] + 3) * eps * scale * (q @ k.T)
        score, p = np.tril(score), at["pattern"][head]
        largest = np.abs(np.tril(at["q"][:, head] @ at["k"][:, head].T)).max(axis=1, keepdims=True) * scale
        rounded = eps * (p.shape[1] + 10 + 2 * largest)
        pattern = p * (score + np.sum(p * score, axis=1, keepdims=True) + rounded)
        z = pattern @ v + p @ found["v"] + (p.shape[1] + 1) * eps * (p @ v)
        head_out = self.linear(at["z"][:, head], z, "O", (layer, head), bias=False)
        return found | {"scores": score, "pattern": pattern, "z": z, "head_out": head_out}

    def linear(
        self, x: np.ndarray, off: np.ndarray, name: str, place: tuple[int, ...], bias: bool = True
    ) -> np.ndarray:
        """x W + b."""
        W, W_off = np.abs(self.params[f"W_{name}"][place]), self.off[f"W_{name}"][place]
        b, b_off = (np.abs(self.params[f"b_{name}"][place]), self.off[f"b_{name}"][place]) if bias else (0.0, 0.0)
        rounded = (W.shape[0] + 1) * self.eps * (np.abs(x) @ W + b)
        return off @ W + np.abs(x) @ W_off + b_off + rounded

    def layer_norm(self, r: np.ndarray, off: np.ndarray, name: str, layer: int | None) -> tuple[np.ndarray, np.ndarray]:
        """s, and x = w c/s + b with c = r - mean(r)."""
        eps, d = self.eps, r.shape[-1]
        c = r - r.mean(axis=-1, keepdims=True)
        s = np.sqrt(np.mean(c**2, axis=-1, keepdims=True) + self.config["eps"])
        rounded = d * np.mean(np.abs(r), axis=-1, keepdims=True) + np.abs(r) + np.abs(c)
        c_off = off + off.mean(axis=-1, keepdims=True) + eps * rounded
        s_off = np.mean(np.abs(c) * c_off, axis=-1, keepdims=True) / s + (d + 7) / 2 * eps * s
        w, b = norm_parameters(self.params, name, layer)
        normalized = c_off / s + np.abs(c) / s * (s_off / s + eps)
        x = np.abs(w) * normalized + eps * (2 * np.abs(w * c / s) + np.abs(w * c / s + b))
        return s_off[:, 0], x


BLOCK_VALUES = (
    "resid_pre ln1_scale ln1_x q k v scores pattern z head_out attn_out resid_mid ln2_scale ln2_x mlp_pre mlp_post "
    "mlp_out resid_post"
).split()


def truth(
    params: Mapping[str, np.ndarray],
    config: Mapping[str, Any],
    prompts: Sequence[Sequence[int]] | np.ndarray,
    eps: float,
    off: Mapping[str, np.ndarray] | None = None,
) -> tuple[Arrays, Arrays]:
    """The oracle's values of prompts of one length, and their bounds: [prompt …], in blocks [layer prompt …]."""
    found: list[tuple[Arrays, Arrays]] = []
    for prompt in prompts:
        acts = oracle.forward(params, config, list(prompt))
        found.append((acts, RunningBound(params, config, acts, eps, off).bounds()))
    return tuple(
        {
            name: np.stack([each[part][name] for each in found], axis=int(name in BLOCK_VALUES))
            for name in found[0][part]
        }
        for part in (0, 1)
    )


def close(found: Any, expected: np.ndarray, bound: np.ndarray) -> bool:
    """Equal where infinite, elsewhere within the bound, which must be small enough to mean something."""
    found = np.asarray(found).reshape(expected.shape)
    finite = np.isfinite(expected)
    assert np.max(bound) < 1e-3 * max(1.0, np.max(np.abs(expected[finite])))
    off = np.abs(np.where(finite, found, 0) - np.where(finite, expected, 0))
    return bool(np.array_equal(found[~finite], expected[~finite]) and np.all(off <= bound))


def agrees_with_differences(function: Callable[[float], float], slope: float) -> bool:
    """Whether a float64 function has this slope at 0, by central differences with one Richardson step.

    D(h) is off by c h² + O(h⁴), and the extrapolation (4 D(h) − D(2h)) / 3 by much less than D(2h) − D(h) = 3 c h².
    Rounding adds eps × 1000 operations × |f| / h.
    """
    h = EPS64 ** (1 / 5)
    near, far = ((function(step) - function(-step)) / (2 * step) for step in (h, 2 * h))
    bound = abs(far - near) + 1000 * EPS64 * (1 + abs(function(0.0))) / h
    assert bound < 1e-2 * abs(slope)
    return abs(slope - (4 * near - far) / 3) <= bound
