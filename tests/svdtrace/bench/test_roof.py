"""A stage beside its roof."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import gpt2jax
from svdtrace import bench
from svdtrace.bench import roof
from svdtrace.bench.counts import Work, attribution_work
from svdtrace.config import TraceConfig
from svdtrace.tracing.prepare import processed
from svdtrace.tracing.trace import trace

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=64, n_ctx=24, d_vocab=40)


def test_the_roof_is_the_lower_of_the_two():
    peaks = roof.Peaks(flop=100.0, traffic=10.0)
    busy, idle = Work(flop=80, moved=4), Work(flop=8, moved=4)
    assert (peaks.roof(busy), peaks.roof(idle)) == (100, 20)
    line = roof.roof_line("forward", idle, 0.8, peaks)
    assert line["gflop_per_second"] == pytest.approx(10e-9)
    assert line["share_of_roof"] == 0.5
    assert [roof.roof_line("", each, 1.0, peaks)["bound_by"] for each in (busy, idle)] == ["arithmetic", "memory"]
    assert roof.roof_line("", Work(0, 0), 1.0, peaks)["share_of_roof"] is None


def test_peaks_are_measured():
    peaks = roof.measured_peaks(matmul=64, triad=4096)
    assert np.isfinite([peaks.flop, peaks.traffic]).all()
    assert min(peaks.flop, peaks.traffic) > 0


@pytest.mark.full
def test_firings_are_those_of_the_trace():
    prompts = bench.random_prompts(CONFIG, 120, 21)
    model = processed(gpt2jax.random_model(CONFIG, jax.random.key(0), std=0.4), TraceConfig())
    taken, firings, batches = roof.attribution(model, prompts, repeats=2)
    assert len(taken) == 2
    assert len(firings) == len(batches) > 1
    table = trace(model, prompts).firings
    in_all = np.zeros((3, 4), int)
    np.add.at(in_all, (table["layer"].to_numpy(), table["head"].to_numpy()), 1)
    np.testing.assert_array_equal(sum(firings), in_all)
    works = roof.stage_works(CONFIG, batches, firings)
    assert works["attribute"].flop == attribution_work(CONFIG, in_all, 2).flop > 0
