"""The authors' own form of relative attention, with every component's row at every key (METHOD.md, section 14.8).

Nothing is batched or left out: `2 l (H+4) h T²` numbers a firing. Folded weights alone, and d_head < d_model.
"""

from __future__ import annotations

import numpy as np

from .relative import Head

MLP, AH_BIAS, EMBEDDING, AH_OFFSET = range(4)
"""Kinds of components after the heads of a layer."""


def trapezoid_weights(scores: np.ndarray, j: int, intervals: int = 64) -> np.ndarray:
    """M by the authors' rule."""
    alpha = np.linspace(0, 1, intervals + 1)
    power = np.exp(alpha[:, None] * (scores - scores.max()))
    p = power / power.sum(axis=1, keepdims=True)
    return np.trapezoid(p[:, [j]] * ((np.arange(len(scores)) == j) - p), alpha, axis=0)


class Basis:
    """Ω without bias rows: its singular vectors, and the biases as offsets of x."""

    def __init__(self, head: Head) -> None:
        params, (layer, number) = head.model.params, head.firing[:2]
        W_Q, W_K = (params[f"W_{name}"][layer, number] for name in "QK")
        b_Q, b_K = (params[f"b_{name}"][layer, number] for name in "QK")
        left, sigma, right = np.linalg.svd(W_Q @ W_K.T)
        h = W_Q.shape[1]
        assert h < len(W_Q), "biases are offsets where d_head is below d_model"
        self.u, self.sigma, self.v = left[:, :h], sigma[:h], right[:h].T
        self.c_d, self.c_s = b_Q @ np.linalg.pinv(W_Q), b_K @ np.linalg.pinv(W_K)


def tensor_rows(head: Head, side: str) -> np.ndarray:
    """The row over the keys of every component, [layer, component, k, b, t]; slots without one hold zeros."""
    params, acts, layer = head.model.params, head.acts, head.layer
    n_heads, n_keys, basis = head.model.config["n_heads"], head.dest + 1, Basis(head)
    x, scale = acts["ln1_x"][layer], acts["ln1_scale"][layer]
    rows = np.zeros((layer, n_heads + 4, len(basis.sigma), n_keys, n_keys))
    vectors = basis.u if side == "dest" else basis.v
    by_key = head.scale * basis.sigma * ((x[:n_keys] + basis.c_s) @ basis.v)
    by_query = head.scale * basis.sigma * ((x[head.dest] + basis.c_d) @ basis.u)

    def row(read: np.ndarray) -> np.ndarray:
        """From what vectors read at each key, [t, k] (of the destination's: at i alone, [k]), to [k, t]."""
        return (by_key * read).T if side == "dest" else (by_query * read).T

    tokens = [head.dest] if side == "dest" else range(n_keys)
    stands = head.dest if side == "dest" else head.src
    for m in range(layer):
        for c in range(n_heads):
            for b in range(n_keys):
                y = acts["v"][m, b, c] @ params["W_O"][m, c]
                read = np.stack([acts["pattern"][m, c, t, b] * (y @ vectors) / scale[t] for t in tokens])
                rows[m, c, :, b] = row(read)
        others = {MLP: acts["mlp_out"][m], AH_BIAS: np.tile(params["b_O"][m], (len(x), 1))}
        if m == 0:
            others[EMBEDDING] = acts["embed"] + acts["pos"]
            offset = (basis.c_d if side == "dest" else basis.c_s) @ vectors
            rows[m, n_heads + AH_OFFSET, :, stands] = row(np.tile(offset, (len(tokens), 1)))
        for kind, y in others.items():
            rows[m, n_heads + kind, :, stands] = row(np.stack([(y[t] @ vectors) / scale[t] for t in tokens]))
    return rows


def tensor_values(head: Head, side: str, M: np.ndarray) -> dict[str, float]:
    """Each writer's value over every k and b; `embed` stands for the embeddings together, `const` for the offset."""
    rows, n_heads = tensor_rows(head, side), head.model.config["n_heads"]
    each = np.einsum("mckbt,t->mc", rows, M)
    found = {f"{m}.{c}": each[m, c] for m in range(len(each)) for c in range(n_heads)}
    for name, kind in (("mlp", MLP), ("attn_bias", AH_BIAS)):
        found |= {f"{name}.{m}": each[m, n_heads + kind] for m in range(len(each))}
    return found | {"embed": each[0, n_heads + EMBEDDING], "const": each[0, n_heads + AH_OFFSET]}
