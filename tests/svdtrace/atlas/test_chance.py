"""What is by chance, against random turns drawn one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracle import atlas as truth

from svdtrace.atlas.chance import half_step, score_chance, share_chance

DRAWS = 4000


def purity(gram: np.ndarray) -> np.ndarray:
    return np.asarray([np.trace(gram @ gram) / np.trace(gram) ** 2])


def centred(rng: np.random.Generator, d: int, sizes: list[float]) -> np.ndarray:
    """A matrix [d, len(sizes)] of zero column means with these singular values."""
    columns = rng.standard_normal((d, len(sizes)))
    return np.linalg.qr(columns - columns.mean(axis=0))[0] * sizes


@pytest.mark.parametrize(("writes", "reads"), [([3, 1, 1], [2, 2, 1, 0.5]), ([1], [1]), ([1], [5, 1])])
def test_scores_by_chance(writes: list[float], reads: list[float]):
    """Catches a variance off by a factor, and dimensions of the residual counted with the constant direction."""
    d, rng = 9, np.random.default_rng(0)
    written, read = centred(rng, d, writes).T, centred(rng, d, reads)
    drawn = np.asarray([truth.composition(written @ truth.random_turn(d, rng), read) for _ in range(DRAWS)])
    (mean,), (deviation,) = score_chance(purity(written @ written.T), purity(read.T @ read), d)
    # The mean square is exact; the mean and deviation are a Beta variable's, off by less than the draws can tell here.
    error = drawn.std() / math.sqrt(DRAWS)
    assert mean**2 + deviation**2 == pytest.approx(1 / (d - 1), rel=1e-9)
    assert abs((drawn**2).mean() - 1 / (d - 1)) < 5 * (drawn**2).std() / math.sqrt(DRAWS)
    assert abs(drawn.mean() - mean) < 5 * error
    assert drawn.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * DRAWS) + 0.02)


@pytest.mark.parametrize("size", [1, 3])
def test_shares_by_chance(size: int):
    """Catches a block's deviation taken for that of so many single vectors."""
    d, rng = 9, np.random.default_rng(1)
    written, vectors = centred(rng, d, [3, 1, 1]).T, centred(rng, d, [1.0] * size)
    drawn = np.asarray([truth.share(written, truth.random_turn(d, rng) @ vectors) for _ in range(DRAWS)])
    (mean,), (deviation,) = share_chance(purity(written @ written.T), d, np.asarray([float(size)]))
    assert mean == pytest.approx(size / (d - 1))
    assert abs(drawn.mean() - mean) < 5 * drawn.std() / math.sqrt(DRAWS)
    # The deviation of a deviation, by the fourth moment.
    spread = math.sqrt(((drawn - drawn.mean()) ** 4).mean() / drawn.var() ** 2 - 1) / (2 * math.sqrt(DRAWS))
    assert drawn.std() == pytest.approx(deviation, rel=5 * spread)


def test_half_a_step_of_the_gamma_function():
    x = np.asarray([1e-3, 0.5, 1.0, 7.25, 300.0])
    expected = [math.exp(math.lgamma(each + 0.5) - math.lgamma(each)) for each in x]
    np.testing.assert_allclose(half_step(x), expected, rtol=1e-9)
