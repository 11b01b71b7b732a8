"""Runs in which signals are kept or set to their means: the formulas of faithfulness, one number at a time.

The definition is that of `svdtrace.faithfulness`: in layers l ≥ 1, for each token, head n, side and k,
`q̂_k = mean q̂_k + Σ_w keep · (term_wk − mean term_wk)` over all writers but const, `term_wk = x_w·Â_k` with the edited
run's own LayerNorm scale; means over the tokens up to the last traced one of all prompts in the clean run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .circuit import last_traced
from .model import ACTIVATIONS, Acts, Config, Params, attend, attn_scale, forward, normalize
from .signals import Writer, share_of_x, writers, written

Keep = Callable[[int, int, int, int, int, int], float]
"""What is kept of a signal: (layer, side, token, head, k, writer) → 0 to 1; side 0 is the query."""


class SignalMeans(NamedTuple):
    """Means by layer: queries and keys [side head k], each writer's part of what is read [d_model], z [head d_head]."""

    gauge: dict[int, np.ndarray]
    read: dict[int, list[np.ndarray]]
    z: dict[int, np.ndarray]


def writers_below(config: Config, layer: int) -> list[Writer]:
    """The writers whose signals can be ablated: all below a layer, const aside."""
    return [writer for writer in writers(config, layer) if writer.kind != "const"]


def signal_means(params: Params, config: Config, prompts: Sequence[Any]) -> SignalMeans:
    """Means over the traced tokens of all prompts; the parameters have their queries and keys in the singular gauge."""
    clean = [(forward(params, config, prompt.tokens), last_traced(prompt)) for prompt in prompts]
    places = [(acts, token) for acts, last in clean for token in range(last + 1)]
    gauge, read, z = {}, {}, {}
    for layer in range(config["n_layers"]):
        gauge[layer] = np.mean([[acts["q"][layer, t], acts["k"][layer, t]] for acts, t in places], axis=0)
        z[layer] = np.mean([acts["z"][layer, t] for acts, t in places], axis=0)
        read[layer] = [
            np.mean([part(params, acts, writer, layer, t) for acts, t in places], axis=0)
            for writer in writers_below(config, layer)
        ]
    return SignalMeans(gauge, read, z)


def part(params: Params, acts: Acts, writer: Writer, layer: int, token: int) -> np.ndarray:
    """x_w [d_model] at a token of a layer, by that run's own scale."""
    return share_of_x(params, "ln1", layer, written(params, acts, writer, token), acts["ln1_scale"][layer, token])


def edited_forward(
    params: Params,
    config: Config,
    tokens: Sequence[int],
    means: SignalMeans,
    keep: Keep | None = None,
    ablated: tuple[int, int] | None = None,
) -> np.ndarray:
    """Logits [tok vocab] of a run with its signals kept as `keep` says, or with one head's z at its mean."""
    resid = params["W_E"][list(tokens)] + params["W_pos"][: len(tokens)]
    acts: dict[str, Any] = {"embed": params["W_E"][list(tokens)], "pos": params["W_pos"][: len(tokens)]}
    acts |= {"ln1_scale": {}, "head_out": {}, "mlp_out": {}}
    for layer in range(config["n_layers"]):
        scale, x = normalize(params, config, "ln1", layer, resid)
        for token in range(len(tokens)):
            acts["ln1_scale"][layer, token] = scale[token]
        written_here = np.zeros_like(resid)
        for head in range(config["n_heads"]):
            sides = [x @ params[f"W_{name}"][layer, head] + params[f"b_{name}"][layer, head] for name in "QK"]
            if layer and keep is not None:
                sides = [_steered(params, config, acts, means, keep, layer, head, side, len(x)) for side in (0, 1)]
            v = x @ params["W_V"][layer, head] + params["b_V"][layer, head]
            _, _, z = attend(sides[0], sides[1], v, attn_scale(config, layer))
            if ablated == (layer, head):
                z = np.tile(means.z[layer][head], (len(x), 1))
            for token in range(len(tokens)):
                acts["head_out"][layer, token, head] = z[token] @ params["W_O"][layer, head]
                written_here[token] += acts["head_out"][layer, token, head]
        resid = resid + written_here + params["b_O"][layer]
        _, x = normalize(params, config, "ln2", layer, resid)
        hidden = ACTIVATIONS[config["activation"]](x @ params["W_in"][layer] + params["b_in"][layer])
        mlp_out = hidden @ params["W_out"][layer] + params["b_out"][layer]
        for token in range(len(tokens)):
            acts["mlp_out"][layer, token] = mlp_out[token]
        resid = resid + mlp_out
    return normalize(params, config, "ln_final", None, resid)[1] @ params["W_U"] + params["b_U"]


def _steered(
    params: Params,
    config: Config,
    acts: Mapping[str, Any],
    means: SignalMeans,
    keep: Keep,
    layer: int,
    head: int,
    side: int,
    n_tokens: int,
) -> np.ndarray:
    """A head's queries or keys [tok k], put together from the signals kept."""
    weights = params["W_Q" if side == 0 else "W_K"][layer, head]
    result = np.tile(means.gauge[layer][side, head], (n_tokens, 1))
    for token in range(n_tokens):
        for w, writer in enumerate(writers_below(config, layer)):
            away = part(params, acts, writer, layer, token) - means.read[layer][w]
            for k in range(weights.shape[1]):
                result[token, k] += keep(layer, side, token, head, k, w) * (away @ weights[:, k])
    return result
