"""The benchmark measures what it says, on a model small enough to do so in seconds."""

from __future__ import annotations

import jax

import gpt2jax
from svdtrace import bench

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=64, n_ctx=24, d_vocab=40)


def test_a_small_model_is_measured_whole() -> None:
    steps: list[tuple[int, int]] = []
    model = gpt2jax.random_model(CONFIG, jax.random.key(0), std=0.4)
    found = bench.run(model, progress=lambda done, total: steps.append((done, total)))
    assert found["prompts"] == 256
    assert found["tokens"] == 21
    assert found["firings_per_prompt"] > 0
    forward, traced = found["stages"]["forward"], found["stages"]["trace"]
    assert found["trace_ratio"] == traced["median"] / forward["median"]
    dense, ours = found["stages"]["dense_svds"], found["stages"]["decomposition"]
    assert found["decomposition_ratio"] == dense["median"] / ours["median"]
    assert steps[-1][0] == steps[-1][1]
    # Writing the tables is part of the trace's time.
    parts = sum(stage["median"] for name, stage in found["stages"].items() if name.startswith("trace."))
    assert parts <= 1.5 * traced["max"]


def test_queries_and_keys_are_scaled_to_the_firings_asked_for() -> None:
    prompts = bench.random_prompts(CONFIG, 16)
    model, gain = bench.firing_model(CONFIG, prompts, firings=30)
    counted = bench._firings_per_prompt(model, prompts)
    assert 25 <= counted <= 40
    assert gain > 1
