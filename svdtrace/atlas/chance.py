"""What scores and shares are by chance: one side's directions turned at random. Numerics, analytic.

Q is a uniformly random orthogonal turn of the centred residual space, of n = d_model − 1 dimensions; A and B are the
Gram matrices of what is written and of what is read, of trace 1, a and b their purities `tr A²`, `tr B²`. Then

    T = tr(A Q B Qᵀ):  mean 1/n,  variance 2 (a − 1/n) (b − 1/n) / ((n − 1)(n + 2))

since the traceless symmetric matrices are one irreducible representation of the orthogonal group, of dimension
(n − 1)(n + 2)/2 (Schur). A share is such a T, with B of purity 1 for a vector, 1/s for a block of s of them (times s).
A score is √T: its mean square is exactly 1/n; its mean and deviation are those of the root of a Beta variable with T's
mean and variance, exact where one factor has rank 1 and the other equal singular values.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def turned(
    a: Float[np.ndarray, "*#pair"], b: Float[np.ndarray, "*#pair"], n: int
) -> tuple[float, Float[np.ndarray, "*_"]]:
    """Mean and variance of T.

    Args:
        a, b: purities.
        n: dimensions that are turned.
    """
    least = 1 / max(n, 1)
    return least, 2 * np.maximum(a - least, 0) * np.maximum(b - least, 0) / (max(n - 1, 1) * (n + 2))


def share_chance(
    writer: Float[np.ndarray, "*pair"], d_model: int, size: Float[np.ndarray, "*pair"]
) -> tuple[Float[np.ndarray, "*pair"], Float[np.ndarray, "*pair"]]:
    """Mean and standard deviation of the share on `size` orthonormal vectors, the reader's turned.

    Args:
        writer: purity of the writer.
    """
    mean, variance = turned(writer, 1 / size, d_model - 1)
    return np.broadcast_to(mean * size, variance.shape), size * np.sqrt(variance)


def score_chance(
    writer: Float[np.ndarray, "*#pair"], reader: Float[np.ndarray, "*#pair"], d_model: int
) -> tuple[Float[np.ndarray, "*_"], Float[np.ndarray, "*_"]]:
    """Mean and standard deviation of the composition score, the writer's directions turned.

    Args:
        writer, reader: purities.
    """
    mean, variance = turned(writer, reader, d_model - 1)
    spread = variance > 0
    # Beta(p, q) with this mean and variance has p + q = mean (1 − mean) / variance − 1.
    total = np.maximum(mean * (1 - mean) / np.where(spread, variance, 1) - 1, 0)
    root = np.where(spread, half_step(mean * total) / half_step(np.where(spread, total, 1)), np.sqrt(mean))
    return root, np.sqrt(np.maximum(mean - root**2, 0))


def half_step(x: Float[np.ndarray, "*pair"]) -> Float[np.ndarray, "*pair"]:
    """`Γ(x + ½) / Γ(x)`, for x ≥ 0, to 1e-9 of it: its series (Abramowitz & Stegun 1964, 6.1.47) at x + 24, carried
    down by `Γ(x + 1) = x Γ(x)`.
    """
    steps = 24
    y = 1 / (x + steps)
    value = np.sqrt(x + steps) * (1 - y / 8 + y**2 / 128 + 5 * y**3 / 1024 - 21 * y**4 / 32768)
    for step in range(steps):
        value = value * (x + step) / (x + step + 0.5)
    return value
