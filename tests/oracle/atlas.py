"""An atlas by its definitions, with dense d_model × d_model matrices and loops over pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .heads import Decomposition
from .model import Config, float64


def reader_matrix(params: Mapping[str, Any], reader: tuple[int, int], side: str) -> np.ndarray:
    """W_Q W_Kᵀ (q), its transpose (k) or W_V W_O (v) of folded weights, [d_model d_model]."""
    p = float64(params)
    W_Q, W_K, W_V, W_O = (p[f"W_{name}"][reader] for name in "QKVO")
    return {"q": W_Q @ W_K.T, "k": W_K @ W_Q.T, "v": W_V @ W_O}[side]


def with_bias_matrix(params: Mapping[str, Any], reader: tuple[int, int], side: str) -> np.ndarray:
    """The first d_model rows of Ω (q) or Ωᵀ (k), [d_model d_model+1]."""
    p = float64(params)
    A = np.vstack([p["W_Q"][reader], p["b_Q"][reader]])
    B = np.vstack([p["W_K"][reader], p["b_K"][reader]])
    return {"q": A @ B.T, "k": B @ A.T}[side][:-1]


def composition(written: np.ndarray, read: np.ndarray) -> float:
    """‖W_OV W‖ / (‖W_OV‖ ‖W‖)."""
    return float(np.linalg.norm(written @ read) / np.linalg.norm(written) / np.linalg.norm(read))


def share(written: np.ndarray, vectors: np.ndarray) -> float:
    """‖W_OV P‖² / ‖W_OV‖², P the projector onto the span of the columns of `vectors` [d_model n]."""
    basis = np.linalg.qr(vectors)[0]
    return float(np.linalg.norm(written @ basis @ basis.T) ** 2 / np.linalg.norm(written) ** 2)


def vectors_of(svd: Decomposition, reader: tuple[int, int], side: str) -> np.ndarray:
    """The reader's left (q) or right (k) singular vectors without their last entries, [d_model sv]."""
    return {"q": svd.U, "k": svd.V}[side][reader][:-1]


def random_turn(d_model: int, rng: np.random.Generator) -> np.ndarray:
    """A uniformly random orthogonal turn of the residuals with mean zero; the constant direction stays."""
    n = d_model - 1
    Q, R = np.linalg.qr(rng.standard_normal((n, n)))
    centred = np.linalg.qr(np.eye(d_model) - 1 / d_model)[0][:, :n]
    return centred @ (Q * np.sign(np.diag(R))) @ centred.T + 1 / d_model


def position_scores(params: Mapping[str, Any], config: Config, head: tuple[int, int], scale: float) -> np.ndarray:
    """The scores [dest src] if the residual held nothing but the folded position embedding."""
    p = float64(params)
    x = p["W_pos"] / np.sqrt((p["W_pos"] ** 2).mean(axis=-1, keepdims=True) + config["eps"])
    q = x @ p["W_Q"][head] + p["b_Q"][head]
    k = x @ p["W_K"][head] + p["b_K"][head]
    return scale * q @ k.T
