"""A small random model, prompts of mixed lengths, and sets of edges that meet every case of METHOD.md, section 10."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gpt2jax
from svdtrace.prompts import Prompt

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=3, d_model=24, d_mlp=32, n_ctx=16, d_vocab=30)


def make_prompts(count: int = 6, seed: int = 0) -> list[Prompt]:
    """Mixed lengths; A and B sometimes share a token; some lack an answer, a role, or an `end`."""
    rng = np.random.default_rng(seed)
    prompts = []
    for place in range(count):
        length = int(rng.integers(7, 10))
        tokens = tuple(int(token) for token in rng.integers(0, CONFIG.d_vocab, length))
        roles = {"A": 2, "B": 2 if place % 3 == 0 else 3, "C": length - 3}
        roles |= {"end": length - 2} if place % 3 else {}
        if place == 4:
            del roles["B"]
        asked = {"answer": int(rng.integers(0, 30)), "distractor": int(rng.integers(0, 30))} if place != 3 else {}
        prompts.append(Prompt(id=None, tokens=tokens, strings=tuple(map(str, tokens)), roles=roles, **asked))
    return prompts


@pytest.fixture(scope="package")
def model() -> gpt2jax.Model:
    return gpt2jax.random_model(CONFIG, jax.random.key(3), std=0.5, biases=0.3)


@pytest.fixture(scope="package")
def prompts() -> list[Prompt]:
    return make_prompts()
