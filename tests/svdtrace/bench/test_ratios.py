"""What is timed is what its name says."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gpt2jax
from svdtrace import bench
from svdtrace.bench import ratios
from svdtrace.bench.record import Record
from svdtrace.config import TraceConfig
from svdtrace.tracing.prepare import processed
from svdtrace.tracing.trace import trace

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=64, n_ctx=24, d_vocab=40)


@pytest.mark.full
def test_a_trace_is_timed_with_its_tables_written():
    prompts = bench.random_prompts(CONFIG, 120, 21)
    model = gpt2jax.random_model(CONFIG, jax.random.key(0), std=0.4)
    found = ratios.forward_and_trace(processed(model, TraceConfig()), prompts, repeats=2)
    assert len(found.forward) == len(found.trace) == 2
    assert found.ratio == np.median(found.trace) / np.median(found.forward)
    assert "write" in found.stages
    for run, whole in enumerate(found.trace):
        assert sum(taken[run] for taken in found.stages.values()) <= whole
    assert found.firings_per_prompt * 120 == trace(model, prompts).firings.num_rows > 0


def test_dense_svds_of_many_heads_are_timed_on_the_first_and_scaled(monkeypatch: pytest.MonkeyPatch):
    shapes = []
    monkeypatch.setattr(np.linalg, "svd", lambda matrix: shapes.append(matrix.shape))
    model = gpt2jax.random_model(CONFIG, jax.random.key(0))
    assert ratios.dense_seconds(model)[1] == len(shapes) == 12
    monkeypatch.setattr(ratios, "MOST_DENSE", 5)
    monkeypatch.setattr(ratios, "seconds", lambda work, _repeats: [work() or 5.0])
    assert ratios.dense_seconds(model) == (12.0, 5)
    assert shapes == 17 * [(33, 33)]


def test_targets_are_met_or_missed():
    record = Record()
    assert record.stage("forward", [3.0, 1.0, 2.0]) == 2
    assert record.stages == {"forward": {"median": 2, "min": 1, "max": 3}}
    record.at_most("a", 1.3, 1.3)
    record.at_most("b", 1.31, 1.3)
    record.at_least("c", 30, 30)
    record.at_least("d", 29, 30)
    assert [each["measure"] for each in record.targets if each["met"]] == ["a", "c"]
    assert [each["target"] for each in record.targets] == 2 * ["≤ 1.3"] + 2 * ["≥ 30"]
