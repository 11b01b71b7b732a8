"""How far rounding can carry a GPT-2 forward pass from exact arithmetic, entry by entry.

To first order an output is off by at most Σ |∂output/∂value| · |rounding error made in computing value|, over all
values of the pass. The derivatives are those of Hugging Face's own float64 pass. The rounding error of one step, from
exact inputs, is bounded as in Higham, Accuracy and Stability of Numerical Algorithms, chapter 3, with ε the dtype's
machine epsilon (twice the unit roundoff: the spare factor takes up what is of higher order):

* a sum of products over n terms, xW + b: (n + 1) ε (|x| |W| + |b|), whatever the order of summation;
* LayerNorm: the mean is off by d ε mean|r|, so c by δc = ε (d mean|r| + |r| + |c|), c/s by δc/s + |c|/s · ρ with
  ρ = mean|c δc|/s² + (d + 7) ε/2 for variance, root and division; then gain and bias;
* scores, a q·k over h terms: δe = (h + 3) ε a |q|·|k|;
* softmax over T terms: p ((1 − 2p) δe + Σ p δe), and p (T + 10 + 2 max|e|) ε of its own, the last for exp's argument;
* activations f, from terms no larger than 1 + |x| that are good to a few ε, whose exp, tanh and erf are flat beyond
  |x| of 16: 16 ε max(|f|, min(1 + |x|, 16));
* sums of two: ε |sum|.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

Values = dict[str, np.ndarray]

# gelu_fast writes sqrt(2/π) with ten digits, 4e-12 off; what it multiplies has a slope below 1.
ACTIVATION_CONSTANTS = {"gelu_fast": 4e-12}


@dataclass(frozen=True)
class Rounding:
    """Bounds of the rounding errors of single steps, at one machine epsilon."""

    eps: float

    def linear(self, x: np.ndarray, W: np.ndarray, b: np.ndarray | float) -> np.ndarray:
        return (W.shape[0] + 1) * self.eps * (np.abs(x) @ np.abs(W) + np.abs(b))

    def layer_norm(self, r: np.ndarray, w: np.ndarray, b: np.ndarray, epsilon: float) -> np.ndarray:
        d = r.shape[-1]
        c = r - np.mean(r, axis=-1, keepdims=True)
        s = np.sqrt(np.mean(c**2, axis=-1, keepdims=True) + epsilon)
        off = self.eps * (d * np.mean(np.abs(r), axis=-1, keepdims=True) + np.abs(r) + np.abs(c))
        relative = np.mean(np.abs(c) * off, axis=-1, keepdims=True) / s**2 + (d + 7) / 2 * self.eps
        normalized = np.abs(w) * (off / s + np.abs(c) / s * relative)
        return normalized + self.eps * (2 * np.abs(w * c / s) + np.abs(w * c / s + b))

    def pattern(self, p: np.ndarray, q: np.ndarray, k: np.ndarray, scale: float) -> np.ndarray:
        score = (q.shape[-1] + 3) * self.eps * scale * np.einsum("binh,bjnh->bnij", np.abs(q), np.abs(k))
        largest = np.max(np.abs(scale * np.einsum("binh,bjnh->bnij", q, k)), axis=-1, keepdims=True)
        moved = (1 - 2 * p) * score + np.sum(p * score, axis=-1, keepdims=True)
        return p * (moved + self.eps * (p.shape[-1] + 10 + 2 * largest))

    def mixed(self, p: np.ndarray, off: np.ndarray, v: np.ndarray) -> np.ndarray:
        weights = off + (p.shape[-1] + 1) * self.eps * p
        return np.einsum("bnij,bjnh->binh", weights, np.abs(v))


def rounding_errors(
    weights: Values, values: Values, scales: list[float], epsilon: float, activation: str, eps: float
) -> Values:
    """Bounds of the errors that each step of a pass makes from exact inputs, layers in front.

    Args:
        weights: float64 tensors under Hugging Face's names, without `transformer.`.
        values: what the pass gives (`hugging_face.run`), in float64.
        scales: the factor of the scores, by layer.
        epsilon: LayerNorm's.
        activation: its name.
        eps: the dtype's machine epsilon.
    """
    rounding = Rounding(eps)
    constant = ACTIVATION_CONSTANTS.get(activation, 0.0)
    by_layer = []
    for layer, scale in enumerate(scales):
        w = {name.removeprefix(f"h.{layer}."): each for name, each in weights.items() if name.startswith(f"h.{layer}.")}
        at = {name: value[layer] for name, value in values.items() if name not in ("embedded", "final", "logits")}
        pattern = rounding.pattern(at["pattern"], at["q"], at["k"], scale)
        mixed = rounding.mixed(at["pattern"], pattern, at["v"])
        written = rounding.linear(
            at["z"].reshape(at["resid_pre"].shape), w["attn.c_proj.weight"], w["attn.c_proj.bias"]
        )
        by_layer.append(
            {
                "read1": rounding.layer_norm(at["resid_pre"], w["ln_1.weight"], w["ln_1.bias"], epsilon),
                "qkv": rounding.linear(at["read1"], w["attn.c_attn.weight"], w["attn.c_attn.bias"]),
                "pattern": pattern,
                "mixed": mixed.reshape(at["resid_pre"].shape),
                "attn_out": written + eps * np.abs(at["resid_mid"]),
                "read2": rounding.layer_norm(at["resid_mid"], w["ln_2.weight"], w["ln_2.bias"], epsilon),
                "pre": rounding.linear(at["read2"], w["mlp.c_fc.weight"], w["mlp.c_fc.bias"]),
                "post": 16 * eps * np.maximum(np.abs(at["post"]), np.minimum(1 + np.abs(at["pre"]), 16))
                + constant * np.abs(at["pre"]),
                "mlp_out": rounding.linear(at["post"], w["mlp.c_proj.weight"], w["mlp.c_proj.bias"])
                + eps * np.abs(at["resid_post"]),
            }
        )
    errors = {name: np.stack([each[name] for each in by_layer]) for name in by_layer[0]}
    unembedding = weights.get("lm_head.weight", weights["wte.weight"]).T
    return errors | {
        "embedded": eps * np.abs(values["resid_pre"][0]),
        "final": rounding.layer_norm(values["resid_post"][-1], weights["ln_f.weight"], weights["ln_f.bias"], epsilon),
        "logits": rounding.linear(values["final"], unembedding, 0.0),
    }


def sensitivities(output: torch.Tensor, off: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """|∂output/∂off|, [entry prompt …], prompts being independent of each other.

    Args:
        output: [prompt …].
        off: what was added to values of the pass, [prompt …] each.
    """
    # Summed over prompts: what is added to one prompt changes that prompt alone.
    entries = output.sum(0).flatten()
    found = torch.autograd.grad(
        entries,
        list(off.values()),
        torch.eye(len(entries), dtype=entries.dtype),
        retain_graph=True,
        is_grads_batched=True,
        allow_unused=True,
    )
    return {name: each.abs() for name, each in zip(off, found, strict=True) if each is not None}


def error_bound(
    sensitivity: dict[str, torch.Tensor], errors: dict[str, np.ndarray], shape: tuple[int, ...]
) -> np.ndarray:
    """Bound of the error of an output [prompt …], from errors [prompt tok …] under the names of `sensitivity`."""
    bounds = [np.einsum("ebtx,btx->be", each.numpy(), errors[name]) for name, each in sensitivity.items()]
    return np.sum(bounds, axis=0).reshape(shape) if bounds else np.zeros(shape)
