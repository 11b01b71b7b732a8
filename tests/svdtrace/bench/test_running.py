"""A whole run, on a model small enough to be measured in minutes."""

from __future__ import annotations

import json
import math
from typing import Any

import jax
import pytest

import gpt2jax
from svdtrace import bench
from svdtrace.bench import running

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=256, d_mlp=64, n_ctx=24, d_vocab=2**18)
SIZES = bench.Sizes(
    repeats=2,
    prompts=8,
    tokens=9,
    firings=5,
    more_firings=(10,),
    middling=(4, 16),
    long_prompts=2,
    long_tokens=64,
    long_batch=1,
    swept=(4, 8),
    matmul=64,
    triad=2**12,
)


def numbers(content: Any) -> list[float]:
    """Every number in what JSON holds."""
    if isinstance(content, dict | list):
        return [
            each for value in (content.values() if isinstance(content, dict) else content) for each in numbers(value)
        ]
    return [content] if isinstance(content, int | float) else []


@pytest.mark.full
@pytest.mark.timeout(900)
def test_everything_is_measured():
    steps: list[tuple[int, int, str]] = []
    found = bench.run(bench.Subject(shape=CONFIG), SIZES, full=True, progress=lambda *step: steps.append(step))
    assert list(found)[:2] == ["trace_ratio", "decomposition_ratio"]
    assert {"device", "cores", "stages", "libraries"} < found.keys()
    assert all(map(math.isfinite, numbers(found)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert [done for done, *_ in steps] == list(range(len(steps)))
    assert steps[-1][0] == steps[-1][1]

    stages = {name: each["median"] for name, each in found["stages"].items()}
    assert found["trace_ratio"] == stages["trace"] / stages["forward"]
    assert found["relative_ratio"] == stages["relative"] / stages["relative_forward"]
    assert [each["firings_per_prompt"] for each in found["relative_growth"]][:2] == pytest.approx([5, 10], rel=0.3)
    assert found["relative_growth"][2]["tokens"] == 16
    assert found["decomposition_ratio"] == stages["dense_svds"] / stages["decomposition"]
    assert [each["firings_per_prompt"] for each in found["growth"]] == pytest.approx([5, 10], rel=0.2)
    assert [each["stage"] for each in found["roofline"]] == ["forward", "decomposition", "attribute"]
    assert [(each["prompts"], each["tokens"]) for each in found["memory"]] == [(8, 9), (2, 24), (2, 24)]
    weights = CONFIG.d_vocab * CONFIG.d_model * 4 / 2**30
    # The embedding as read, and the unembedding that folding unties from it.
    assert all(each["peak_gib"] > 2 * weights for each in found["memory"])
    assert [each["model"] for each in found["first_result"]] == ["bundled", "random weights"]
    assert all(each["second_start_seconds"] < each["first_result_seconds"] for each in found["first_result"])
    assert found["linearity"]["prompts_ratio"] == 2
    assert [each["measure"] for each in found["targets"]] == [
        "decomposition_seconds",
        "decomposition_ratio",
        "trace_ratio",
        "relative_ratio",
        "trace_peak_gib",
        "first_result_seconds, bundled",
        "second_start_seconds, bundled",
        "relative_ratio, more firings",
        "relative_ratio, longer prompts",
        "long_trace_peak_gib",
        "long_relative_peak_gib",
        "first_result_seconds, random weights",
        "second_start_seconds, random weights",
        "sweep_seconds_ratio",
    ]


@pytest.mark.full
def test_a_model_of_somebodys_is_measured_as_it_is(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """What is measured in processes of its own aside."""
    inside = {"all heads' decomposition", "dense SVDs by LAPACK", "forward pass and trace", "the roof of each stage"}
    inside.add("a trace by relative attention")
    listed = tuple(each for each in running.MEASUREMENTS if each[0] in inside)
    assert len(listed) == 5
    monkeypatch.setattr(running, "MEASUREMENTS", listed)
    shape = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=64, n_ctx=8, d_vocab=40)
    gpt2jax.save(gpt2jax.random_model(shape, jax.random.key(1), std=0.4), tmp_path / "model")
    found = bench.run(bench.Subject(str(tmp_path / "model")), SIZES)
    assert found["query_key_gain"] == 1
    assert found["model"] == str(tmp_path / "model")
    assert found["shape"]["d_model"] == 32
    assert found["tokens"] == 8
    assert len(found["growth"]) == 1
    assert found["firings_per_prompt"] > 0
