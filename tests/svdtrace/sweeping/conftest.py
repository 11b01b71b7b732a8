"""The model that sweeps are tested on."""

from __future__ import annotations

import pytest
from small_model import jax_model, small_model

import gpt2jax


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    params, config = small_model(seed=3)
    return jax_model(params, config)
