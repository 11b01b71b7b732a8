"""A model made ready to be traced."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gpt2jax
from svdtrace.config import TraceConfig
from svdtrace.tracing.prepare import prepare


@pytest.mark.whole
def test_every_layer_has_its_own_scale() -> None:
    """Catches the scale of one layer for all: products, which most tests compare, come before it."""
    config = gpt2jax.GPT2Config(
        n_layers=3, n_heads=2, d_model=8, d_mlp=16, n_ctx=8, d_vocab=12, scale_attn_by_inverse_layer_idx=True
    )
    prepared = prepare(gpt2jax.random_model(config, jax.random.key(0)), TraceConfig())
    assert np.allclose(prepared.score_scale, [0.5, 0.5 / 2, 0.5 / 3], rtol=1e-6)
