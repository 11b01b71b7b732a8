"""What tests of laws share."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _float64_beside_int32() -> Iterator[None]:
    """Where float64 exists whole numbers have 64 bits too, beside the 32 of tokens."""
    with jax.numpy_dtype_promotion("standard"):
        yield
