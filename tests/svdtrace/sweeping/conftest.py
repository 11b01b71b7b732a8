"""The model that sweeps are tested on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_model import jax_model, small_model
from swept_folders import CONFIG, PART, PROMPTS

import gpt2jax
import svdtrace


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    params, config = small_model(seed=3)
    return jax_model(params, config)


@pytest.fixture(scope="module")
def undisturbed(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweeps") / "undisturbed"
    svdtrace.sweep(model, PROMPTS, folder, CONFIG, part_size=PART)
    return folder
