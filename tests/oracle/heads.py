"""What one head does at one pair of tokens: decomposition, firings, slices (METHOD.md, sections 2 to 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .model import Acts, Config, Params, float64

EPS32 = float(np.finfo(np.float32).eps)
"""The bounds of section 4 and the rank rule of section 2 are float32's, whatever the oracle computes in."""


class Decomposition(NamedTuple):
    """Ω = U diag(S) Vᵀ of every head: U, V [layer head d_model+1 d_head] (vectors are columns), S, rank."""

    U: np.ndarray
    S: np.ndarray
    V: np.ndarray
    rank: np.ndarray


class Slice(NamedTuple):
    """The k chosen, in the order in which they were chosen, their products, Σ over all k, and whether it was close."""

    members: list[int]
    products: list[float]
    total: float
    near_tie: bool


def decompose_head(omega: np.ndarray, d_head: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """U, S, V and the rank of one head, by a dense SVD of Ω [d_model+1, d_model+1] (section 2's signs and rank)."""
    left, sigma, right = np.linalg.svd(omega)
    U, S, V = left[:, :d_head].copy(), sigma[:d_head], right[:d_head].T.copy()
    for k in range(d_head):
        if U[np.argmax(np.abs(U[:, k])), k] < 0:
            U[:, k], V[:, k] = -U[:, k], -V[:, k]
    rank = sum(1 for value in S if value > S[0] * len(omega) * EPS32)
    return U, S, V, rank


def decompose(params: Mapping[str, Any], config: Config) -> Decomposition:
    """The SVD of every head's Ω = [W_Q ; b_Q] [W_K ; b_K]ᵀ, descending σ, d_head of them (section 2)."""
    p = float64(params)
    d_head = p["W_Q"].shape[-1]
    shape = (config["n_layers"], config["n_heads"])
    U = np.zeros((*shape, config["d_model"] + 1, d_head))
    S, V, rank = np.zeros((*shape, d_head)), np.zeros_like(U), np.zeros(shape, dtype=int)
    for layer, head in np.ndindex(*shape):
        A = np.vstack([p["W_Q"][layer, head], p["b_Q"][layer, head]])
        B = np.vstack([p["W_K"][layer, head], p["b_K"][layer, head]])
        here = layer, head
        U[here], S[here], V[here], rank[here] = decompose_head(A @ B.T, d_head)
    return Decomposition(U, S, V, rank)


def singular_gauge(params: Mapping[str, Any], config: Config, svd: Decomposition) -> Params:
    """The same model with (A, B) replaced by (U Σ^½, V Σ^½), columns beyond the rank zero (section 2)."""
    p = float64(params)
    for layer, head in np.ndindex(config["n_layers"], config["n_heads"]):
        root = np.sqrt(svd.S[layer, head])
        root[svd.rank[layer, head] :] = 0.0
        for name, vectors in (("Q", svd.U), ("K", svd.V)):
            gauged = vectors[layer, head] * root
            p[f"W_{name}"][layer, head], p[f"b_{name}"][layer, head] = gauged[:-1], gauged[-1]
    return p


def softmax(scores: np.ndarray) -> np.ndarray:
    """The pattern of a row of scores."""
    power = np.exp(scores - scores.max())
    return power / power.sum()


def with_one(x: np.ndarray) -> np.ndarray:
    """x̃ = [x, 1]."""
    return np.append(x, 1.0)


def products(acts: Acts, svd: Decomposition, firing: tuple[int, int, int, int]) -> np.ndarray:
    """p_k(i, j) = σ_k (x̃_i·u_k)(v_k·x̃_j) for every k, exactly 0 beyond the rank (section 2).

    Args:
        firing: (layer, head, dest, src), any pair of tokens.
    """
    layer, head, dest, src = firing
    x_dest, x_src = with_one(acts["ln1_x"][layer, dest]), with_one(acts["ln1_x"][layer, src])
    p = np.zeros(svd.S.shape[-1])
    for k in range(svd.rank[layer, head]):
        p[k] = svd.S[layer, head, k] * (x_dest @ svd.U[layer, head, :, k]) * (svd.V[layer, head, :, k] @ x_src)
    return p


def turns(sigma: np.ndarray) -> np.ndarray:
    """θ_k = min(1, 4 eps σ_0 / gap_k) for every k, and 0 for a head of one dimension (section 4).

    The nearest other σ is sought among all d_head of them, those beyond the rank included; a gap of 0 gives 1.
    """
    apart = np.abs(sigma[:, None] - sigma[None, :])
    np.fill_diagonal(apart, np.inf)
    least, gap = 4 * EPS32 * sigma[0], apart.min(axis=1)
    return np.where(gap <= least, 1.0, least / np.where(gap > least, gap, 1.0))


def gauge_norms(acts: Acts, svd: Decomposition, firing: tuple[int, int, int, int]) -> tuple[float, float]:
    """|q̂| and |k̂|: norms over all k within the rank of the singular gauge's q and k."""
    layer, head, dest, src = firing
    found = []
    for vectors, token in ((svd.U, dest), (svd.V, src)):
        x = with_one(acts["ln1_x"][layer, token])
        parts = [svd.S[layer, head, k] * (x @ vectors[layer, head, :, k]) ** 2 for k in range(svd.rank[layer, head])]
        found.append(math.sqrt(sum(parts)))
    return found[0], found[1]


def product_bounds(acts: Acts, svd: Decomposition, firing: tuple[int, int, int, int]) -> np.ndarray:
    """The float32 bound of every p_k (section 4)."""
    layer, head, _, _ = firing
    sigma, rank = svd.S[layer, head], svd.rank[layer, head]
    q_norm, k_norm = gauge_norms(acts, svd, firing)
    root = math.sqrt(sigma[0])
    bounds = (q_norm + root) * (k_norm + root) * (5e-5 + turns(sigma))
    bounds[rank:] = 0.0
    return bounds


def score_bound(acts: Acts, svd: Decomposition, firing: tuple[int, int, int, int], scale: float) -> float:
    """The float32 bound of a score (section 3)."""
    root = math.sqrt(svd.S[firing[0], firing[1], 0])
    q_norm, k_norm = gauge_norms(acts, svd, firing)
    return (q_norm + root) * (k_norm + root) * 5e-5 * scale


def pattern_bound(acts: Acts, svd: Decomposition, firing: tuple[int, int, int, int], scale: float) -> float:
    """The float32 bound of a pattern (section 3): e is the largest bound of a score of its row."""
    layer, head, dest, _ = firing
    a = acts["pattern"][firing]
    e = max(score_bound(acts, svd, (layer, head, dest, src), scale) for src in range(dest + 1))
    return a * (2 * (1 - a) * e + (dest + 1) * EPS32)


def running_sums(values: Iterable[float]) -> list[float]:
    """The partial sums, the empty one first: `len(values) + 1` of them."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + float(value))
    return sums


def choose_slice(p: np.ndarray, bounds: np.ndarray, tau: float) -> Slice:
    """S(i, j) of section 4, for totals of either sign, with its near-tie flag.

    Where section 4 leaves room: a running sum's bound is the root of the sum of the squares of its members' bounds;
    the empty running sum is exact and never near anything; "within theirs of each other" compares the difference of
    two products with the sum of their bounds; "within" includes equality; t = 0 is never near a tie.
    """
    order = sorted(range(len(p)), key=lambda k: (-p[k], k))
    sign = 1.0
    if running_sums(p[order])[-1] < 0:
        order, sign = sorted(range(len(p)), key=lambda k: (p[k], k)), -1.0
    sums = running_sums(p[order])
    total = sums[-1]
    if total == 0:
        return Slice([], [], 0.0, False)
    size = next((n for n in range(1, len(sums)) if sign * sums[n] > sign * tau * total), None)
    if size is None:
        size = sum(1 for k in order if sign * p[k] > 0)
    members = order[:size]
    near = any(abs(p[k]) <= bounds[k] for k in members)
    for n in (size, size - 1):
        near = near or (n > 0 and abs(sums[n] - tau * total) <= math.sqrt(sum(bounds[k] ** 2 for k in order[:n])))
    if 0 < size < len(order):
        inside, outside = order[size - 1], order[size]
        near = near or abs(p[inside] - p[outside]) <= bounds[inside] + bounds[outside]
    return Slice(members, [float(p[k]) for k in members], total, bool(near))


def whole_slice(p: np.ndarray, rank: int) -> Slice:
    """The slice of the method `all`: every k within the rank, products descending, never near a tie (section 4)."""
    order = sorted(range(len(p)), key=lambda k: (-p[k], k))
    members = [k for k in order if k < rank]
    return Slice(members, [float(p[k]) for k in members], running_sums(p[order])[-1], False)


def firings(
    acts: Acts, settings: Mapping[str, Any], last: int, first_layer: int = 1
) -> list[tuple[int, int, int, int]]:
    """Every (layer, head, dest, src) at which a head fires (section 3), in the tables' order.

    Args:
        settings: `threshold`, `score_min`, `skip_first`.
        last: the prompt's last traced token.
        first_layer: 1 for a trace; 0 counts the firings of layer 0 as well.
    """
    n_layers, n_heads = acts["pattern"].shape[:2]
    found = []
    for layer in range(first_layer, n_layers):
        for head in range(n_heads):
            for dest in range(last + 1):
                for src in range(1 if settings["skip_first"] else 0, dest + 1):
                    pattern, score = acts["pattern"][layer, head, dest, src], acts["scores"][layer, head, dest, src]
                    if pattern >= settings["threshold"] and score >= settings["score_min"]:
                        found.append((layer, head, dest, src))
    return found
