"""What holds of every head's decomposition."""

from __future__ import annotations

import numpy as np
from hypothesis import given

from laws.examples import CONFIG, EPS, Drawn, few, models
from svdtrace.method.decomposition import decompose, query_key_factors

STEPS = (CONFIG.d_model + 1) * CONFIG.d_head
"""Rounding steps of a thin QR, as in Higham, Accuracy and Stability of Numerical Algorithms, theorem 19.4."""


@few
@given(drawn=models)
def test_u_s_v_rebuild_every_head(drawn: Drawn) -> None:
    """Catches a transposed factor, a lost bias row, U and V of unlike order, for short heads too."""
    model = drawn.model()
    parts = decompose(model)
    A, B = (np.asarray(each, np.float64) for each in query_key_factors(model.params.blocks))
    U, S, V = (np.asarray(each, np.float64) for each in (parts.U, parts.S, parts.V))
    error = np.linalg.norm((U * S[..., None, :]) @ np.swapaxes(V, -1, -2) - A @ np.swapaxes(B, -1, -2), axis=(-2, -1))
    size = np.linalg.norm(A, axis=(-2, -1)) * np.linalg.norm(B, axis=(-2, -1))
    assert np.all(error <= EPS * STEPS * size)
    assert np.all(np.diff(S, axis=-1) <= 0)
    assert np.all(S >= 0)


@few
@given(drawn=models)
def test_singular_vectors_are_orthonormal_and_signed(drawn: Drawn) -> None:
    """Catches vectors of a short head that are not completed to a basis, and signs left to chance."""
    model = drawn.model()
    parts = decompose(model)
    for vectors in (parts.U, parts.V):
        vectors = np.asarray(vectors, np.float64)
        gram = np.swapaxes(vectors, -1, -2) @ vectors
        assert np.max(np.linalg.norm(gram - np.eye(CONFIG.d_head), axis=(-2, -1))) <= EPS * STEPS
    U = np.asarray(parts.U)
    largest = np.argmax(np.abs(U), axis=-2)
    assert np.all(np.take_along_axis(U, largest[..., None, :], axis=-2) > 0)
