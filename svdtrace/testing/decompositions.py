"""Laws of a decomposition `Ω = A Bᵀ = U diag(S) Vᵀ`, ours or any other (METHOD.md, section 2).

Each takes (A, B, U, S, V), with or without leading axes (layer, head), and looks at those it speaks of. They hold U, S
and V to the precision of U's own dtype, whatever the weights are like.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Inexact

from svdtrace.method.ratios import DECOMPOSED, Ratio, broken, head_name, rebuilt, worst

__all__ = ["ordered", "orthonormal", "rebuilt", "second_opinion", "signed", "subspaces", "values_alone"]

Factor = Inexact[np.ndarray, "*head d_model_1 d_head"]
Values = Inexact[np.ndarray, "*head d_head"]

QUADRATURE = 4.0
"""Sums of n terms round by some √n ulps, since their errors add in quadrature (Higham & Mary 2019); METHOD.md's
constant of θ_k (section 4)."""
APART = 64.0
"""Singular values stand in one block where they lie within so many ulps of ‖A‖₂‖B‖₂: there vectors may turn freely."""


def orthonormal(A: Factor, B: Factor, U: Factor, S: Values, V: Factor) -> Ratio:
    """`‖I − UᵀU‖ / ((d+1) ulp) < 35`, V likewise, where Ω has not full rank too.

    Bound: columns of a product of reflections or of Cholesky QR (three rounds) are orthonormal to size × ulp (Higham,
    theorem 19.4; Fukaya et al. 2020). Source: METHOD.md, section 2; LAPACK, TESTING, dort01. Catches: vectors of a
    head without full rank that are not completed to a basis.
    """
    del A, B, S
    error = np.stack([_gram_error(U), _gram_error(V)])
    unit = np.full(error.shape, U.shape[-2] * _ulp(U))
    return worst("orthonormal", error, unit, DECOMPOSED, lambda at: f"{'UV'[at[0]]} of {head_name(at[1:])}")


def ordered(A: Factor, B: Factor, U: Factor, S: Values, V: Factor) -> Ratio:
    """`σ_0 ≥ σ_1 ≥ … ≥ 0`, exactly: the ratio counts the heads where it is not so.

    Bound: order is decided by comparing, which does not round. Source: METHOD.md, section 2; LAPACK, TESTING, ddrvbd.
    Catches: values sorted upwards or not at all, and a sign left in S.
    """
    del A, B, U, V
    wrong = ~(np.all(S[..., :-1] >= S[..., 1:], axis=-1) & np.all(S >= 0, axis=-1))
    return broken("ordered", [head_name(tuple(at)) for at in np.argwhere(wrong).tolist()])


def signed(A: Factor, B: Factor, U: Factor, S: Values, V: Factor) -> Ratio:
    """The entry of u_k of largest magnitude is positive, the lowest index among equals: the ratio counts the heads
    where it is not.

    Bound: none, a sign does not round. Source: METHOD.md, section 2, our own convention, which others need not keep.
    Catches: signs left to chance, so that the same model gives other vectors elsewhere.
    """
    del A, B, S, V
    largest = np.argmax(np.abs(U), axis=-2)[..., None, :]
    wrong = np.any(np.take_along_axis(U, largest, axis=-2)[..., 0, :] <= 0, axis=-1)
    return broken("signed", [head_name(tuple(at)) for at in np.argwhere(wrong).tolist()])


def values_alone(A: Factor, B: Factor, U: Factor, S: Values, V: Factor) -> Ratio:
    """`max_k |σ_k − S_k| / (‖A‖₂ ‖B‖₂ √max(d+1, h) ulp) < 4`, σ computed without vectors, in the same precision.

    Bound: |σ − S| ≤ ‖A Bᵀ − U S Vᵀ‖₂ (Weyl), made of sums of d+1 terms; LAPACK takes another algorithm where no vectors
    are asked for. Source: LAPACK, TESTING, ddrvbd (9). Catches: S that belongs to other vectors.
    """
    del V
    return _against("values_alone", np.asarray(A, U.dtype), np.asarray(B, U.dtype), S, _ulp(U))


def second_opinion(A: Factor, B: Factor, U: Factor, S: Values, V: Factor) -> Ratio:
    """`max_k |σ_k − S_k| / (‖A‖₂ ‖B‖₂ √max(d+1, h) ulp) < 4`, σ by LAPACK in float64.

    Bound: as of `values_alone`. Its norm is ‖A‖₂‖B‖₂ and not σ_0: where A and B cancel, float32 cannot know σ_0 better.
    ulp is that of the values' dtype and float64's own, since LAPACK rounds too.
    Source: METHOD.md, section 2. Catches: what all float32 programs here have in common.
    """
    del V
    return _against(
        "second_opinion",
        np.asarray(A, np.float64),
        np.asarray(B, np.float64),
        S,
        _ulp(U) + float(np.finfo(np.float64).eps),
    )


def subspaces(A: Factor, B: Factor, U: Factor, S: Values, V: Factor) -> Ratio:
    """`sin φ · gap / (‖A‖₂ ‖B‖₂ √max(d+1, h) ulp) < 4`, φ the largest principal angle between a block of vectors and
    float64's.

    A block is a run of singular values that lie within 64 ulps of ‖A‖₂‖B‖₂ of their neighbours, gap its distance to the
    values outside it: within a block vectors may take any place, so that single vectors are compared where they stand
    alone. Blocks below the rank are left out. Bound: sin φ ≤ ‖A Bᵀ − U S Vᵀ‖₂ / gap (Wedin 1972). Source: METHOD.md,
    section 4 (θ_k). Catches: vectors that are orthonormal, rebuild Ω, and belong to other singular values.
    ulp is as in `second_opinion`.
    """
    del S
    # Float64's own vectors are rounded too, as much as those that are held against them if these are float64's.
    ulp, rows = _ulp(U) + float(np.finfo(np.float64).eps), max(U.shape[-2:])
    errors, units, names = [], [], []
    for at in np.ndindex(*U.shape[:-2]):
        left, values, right, norm = _truth(A[at], B[at])
        unit = rows**0.5 * ulp * norm
        for first, last, gap in _blocks(values, APART * ulp * norm, U.shape[-2] > U.shape[-1]):
            if values[last] <= values[0] * rows * ulp or gap <= 0:
                continue
            which = slice(first, last + 1)
            pairs = ((left, U[at]), (right, V[at]))
            errors.append(max(_sine(truth[:, which], np.asarray(mine[:, which], np.float64)) for truth, mine in pairs))
            units.append(unit / gap)
            names.append(f"{head_name(at)}, σ {first}" + (f"–{last}" if last > first else ""))
    return worst("subspaces", np.asarray(errors), np.asarray(units), QUADRATURE, lambda index: names[index[0]])


def _ulp(array: np.ndarray) -> float:
    return float(np.finfo(array.dtype).eps)


def _gram_error(vectors: np.ndarray) -> np.ndarray:
    wide = np.asarray(vectors, np.float64)
    gram = np.swapaxes(wide, -1, -2) @ wide
    return np.asarray(np.linalg.norm(gram - np.eye(gram.shape[-1]), axis=(-2, -1)))


def _against(law: str, A: np.ndarray, B: np.ndarray, S: np.ndarray, ulp: float) -> Ratio:
    """Singular values by LAPACK against others; where there are more columns than rows the rest must be 0."""
    R_A, R_B = (np.linalg.qr(each, mode="r") for each in (A, B))
    values = np.linalg.svd(R_A @ np.swapaxes(R_B, -1, -2), compute_uv=False)
    held = np.zeros(S.shape)
    held[..., : values.shape[-1]] = values
    norm = np.prod([np.linalg.norm(np.asarray(each, np.float64), 2, axis=(-2, -1)) for each in (R_A, R_B)], axis=0)
    unit = np.asarray(max(A.shape[-2:]) ** 0.5 * ulp * norm)
    return worst(law, np.asarray(np.max(np.abs(held - S), axis=-1)), unit, QUADRATURE, head_name)


def _truth(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """U, σ and V of a head in float64, and ‖A‖₂‖B‖₂."""
    (q_a, r_a), (q_b, r_b) = (np.linalg.qr(np.asarray(each, np.float64)) for each in (A, B))
    left, values, right = np.linalg.svd(r_a @ r_b.T)
    return q_a @ left, values, q_b @ right.T, float(np.linalg.norm(r_a, 2) * np.linalg.norm(r_b, 2))


def _blocks(values: np.ndarray, near: float, more: bool) -> Iterator[tuple[int, int, float]]:
    """Runs of neighbours closer than `near`: the first, the last, and how far the values outside are.

    Args:
        more: whether Ω has further singular values, all of them 0.
    """
    edges = [-1, *np.flatnonzero(values[:-1] - values[1:] > near).tolist(), len(values) - 1]
    for before, last in pairwise(edges):
        above = np.inf if before < 0 else values[before] - values[before + 1]
        following = values[last + 1] if last + 1 < len(values) else 0.0 if more else -np.inf
        yield before + 1, last, float(min(above, values[last] - following))


def _sine(truth: np.ndarray, vectors: np.ndarray) -> float:
    """The sine of the largest angle between what two sets of orthonormal columns span, accurate where it is small."""
    left = vectors - truth @ (truth.T @ vectors)
    # Of a single column the norms are one, and LAPACK is not asked thousands of times.
    return float(np.linalg.norm(left, 2) if left.shape[-1] > 1 else np.linalg.norm(left))
