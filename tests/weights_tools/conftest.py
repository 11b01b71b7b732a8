"""What the tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def _promotion_as_optax_needs_it() -> Iterator[None]:
    """optax counts its steps in int32 and computes with them in float32."""
    with jax.numpy_dtype_promotion("standard"):
        yield
