"""How far a law is from being broken, as a number: the form in which LAPACK's test programs print what they check.

A law compares what should be equal. Its ratio is error / (size × ulp × norm), where size × ulp × norm is what rounding
makes of the error; beside it stands the threshold that it must stay below (LAPACK, TESTING: 35 for decompositions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Inexact, Int

from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.method.decomposition import FLOAT32_EPS

DECOMPOSED = 35.0
"""LAPACK's own threshold for singular value decompositions."""
EXACT = 1.0
"""Of laws that know no rounding: the ratio counts where they are broken, and one is too many."""
ACTIVATION = ACTIVATION_ERROR / FLOAT32_EPS
"""Of activations after a whole float32 forward pass: METHOD.md's 5e-5, in ulps (section 3)."""


@dataclass(frozen=True)
class Ratio:
    """One law tried: `value` = error / (size × ulp × norm) at its worst place, `worst_at`; it must be < `threshold`."""

    law: str
    value: float
    threshold: float
    worst_at: str

    @property
    def holds(self) -> bool:
        """Whether the law holds; a ratio that is no number breaks it."""
        return self.value < self.threshold

    @property
    def verdict(self) -> str:
        """`holds` or `fails`."""
        return "holds" if self.holds else "fails"

    def to_dict(self) -> dict[str, Any]:
        """As `svdtrace verify --json` and manifests have it; a ratio that is not finite is null."""
        return {
            "law": self.law,
            "ratio": self.value if math.isfinite(self.value) else None,
            "threshold": self.threshold,
            "worst_at": self.worst_at,
            "verdict": self.verdict,
        }


def worst(
    law: str,
    error: Float[np.ndarray, "*place"] | Int[np.ndarray, "*place"],
    unit: Float[np.ndarray, "*place"] | Int[np.ndarray, "*place"],
    threshold: float,
    name: Callable[[tuple[int, ...]], str],
) -> Ratio:
    """The ratio error / unit where it is largest; no error is ratio 0 whatever the unit.

    Args:
        error: 0 or more; unit: what rounding makes of it.
        name: from the index of a place to what it is called.
    """
    if not error.size:
        return nothing(law, threshold)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / unit)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    place = name(tuple(int(each) for each in at)) if ratio[at] else "nothing differs"
    return Ratio(law, float(ratio[at]), threshold, place)


def nothing(law: str, threshold: float) -> Ratio:
    """A law that finds nothing to be tried on, and so is not broken."""
    return Ratio(law, 0.0, threshold, "nothing to try it on")


def broken(law: str, places: list[str]) -> Ratio:
    """The ratio of a law that knows no rounding: at how many places it is broken, and the first of them."""
    return Ratio(law, float(len(places)), EXACT, places[0] if places else "nothing differs")


def head_name(at: tuple[int, ...]) -> str:
    """`1.2` for a layer and a head; a single matrix has no name of its own."""
    return ".".join(map(str, at)) or "the matrix"


def rebuilt(
    A: Inexact[np.ndarray, "*head d_model_1 d_head"],
    B: Inexact[np.ndarray, "*head d_model_1 d_head"],
    U: Inexact[np.ndarray, "*head d_model_1 d_head"],
    S: Inexact[np.ndarray, "*head d_head"],
    V: Inexact[np.ndarray, "*head d_model_1 d_head"],
    name: Callable[[tuple[int, ...]], str] = head_name,
) -> Ratio:
    """`‖A Bᵀ − U S Vᵀ‖ / (‖A‖ ‖B‖ max(d+1, h) ulp) < 35`, Frobenius norms.

    Bound: each of the factorisation's products and turns rounds by at most size × ulp of the factors' norms (Higham,
    Accuracy and Stability of Numerical Algorithms, theorem 19.4), so that ‖Ω‖ would be no measure where A and B cancel:
    ‖A‖‖B‖/‖Ω‖, by how much they do, is told beside the place. Source: METHOD.md, section 2; LAPACK, TESTING, dbdt01.
    Catches: a transposed factor, a lost bias row, U and V of unlike order.

    Args:
        name: from the index of a head to what it is called.
    """
    ulp, size = float(np.finfo(U.dtype).eps), max(U.shape[-2:])
    heads = S.shape[:-1]
    error, norm, gain = (np.zeros(heads) for _ in range(3))
    for at in np.ndindex(*heads):
        a, b, u, s, v = (np.asarray(each[at], np.float64) for each in (A, B, U, S, V))
        omega = a @ b.T
        error[at] = np.linalg.norm(omega - (u * s) @ v.T)
        norm[at] = np.linalg.norm(a) * np.linalg.norm(b)
        gain[at] = norm[at] / max(float(np.linalg.norm(omega)), np.finfo(np.float64).tiny)
    return worst(
        "rebuilt",
        error,
        np.asarray(size * ulp * norm),
        DECOMPOSED,
        lambda at: f"{name(at)}, ‖A‖‖B‖/‖Ω‖ {gain[at]:.1f}" if norm[at] else name(at),
    )


def products_summed(
    q: Inexact[np.ndarray, "*head tok d_head"],
    k: Inexact[np.ndarray, "*head tok d_head"],
    q_gauge: Inexact[np.ndarray, "*head tok d_head"],
    k_gauge: Inexact[np.ndarray, "*head tok d_head"],
    S: Inexact[np.ndarray, "*head d_head"],
    name: Callable[[tuple[int, ...]], str] = head_name,
) -> Ratio:
    """`|Σ_k p_k − q·k| / ((|q̂| + √σ_0)(|k̂| + √σ_0) ulp) < 2 · 5e-5/ulp` at every pair j ≤ i.

    `p_k = q̂_k k̂_k` in the singular gauge, q·k in the model's own. Bound: METHOD.md's of a score (section 3), once for
    each side of the equation. Source: METHOD.md, section 2. Catches: a gauge that loses a bias, a singular value, a
    sign or a head.

    Args:
        name: from a place (…, i, j) to what it is called.
    """
    dots = [
        np.einsum("...ih,...jh->...ij", *(np.asarray(x, np.float64) for x in pair), optimize=True)
        for pair in ((q, k), (q_gauge, k_gauge))
    ]
    root = np.sqrt(np.asarray(S[..., :1], np.float64))
    q_size, k_size = (np.linalg.norm(np.asarray(x, np.float64), axis=-1) + root for x in (q_gauge, k_gauge))
    unit = np.einsum("...i,...j->...ij", q_size, k_size) * FLOAT32_EPS
    error = np.tril(np.abs(dots[0] - dots[1]))
    return worst("products_summed", error, unit, 2 * ACTIVATION, name)
