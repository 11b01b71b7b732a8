"""One small model and its prompts; what the oracle says of them, and what the package says."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import oracle
import pytest
from oracle import characterisation as truth
from small_model import jax_model, small_model

import svdtrace
from svdtrace.characterisation.characterising import characterise
from svdtrace.characterisation.usage import head_usage
from svdtrace.prompts import Prompt

# float64, so that no decision hangs on rounding; what runs in float32 too does so where types are not mixed.
CONFIG = svdtrace.TraceConfig(threshold=0.3, dtype="float64", score_min=0.05)
SETTINGS = {**oracle.DEFAULTS, "threshold": 0.3, "score_min": 0.05}


@pytest.fixture(scope="package")
def model():
    params, config = small_model(n_layers=3)
    return params, config, jax_model(params, config)


@pytest.fixture
def promoted():
    """float64 runs where types may be mixed: JAX's own default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="package")
def prompts() -> list[Prompt]:
    rng = np.random.default_rng(1)
    found = []
    for length in (9, 7, 9, 8):
        tokens = tuple(int(token) for token in rng.integers(0, 12, length))
        roles = {"IO": 2, "S1": 3} | ({"end": length - 2} if length == 9 else {})
        found.append(Prompt(None, tokens, tuple(map(str, tokens)), roles))
    return found


@pytest.fixture(scope="package")
def pairs(model, prompts) -> truth.Pairs:
    return truth.Pairs(oracle.prepare(*model[:2], "folded"), prompts, SETTINGS)


@pytest.fixture(scope="package")
def usage(model, prompts):
    with jax.numpy_dtype_promotion("standard"):
        return head_usage(model[2], prompts, CONFIG, most_pairs=10**6)


@pytest.fixture(scope="package")
def found(model, prompts):
    return characterise(model[2], prompts, prompts[:2], replace(CONFIG, dtype="float32"))


@pytest.fixture(scope="package")
def config() -> svdtrace.TraceConfig:
    return CONFIG
