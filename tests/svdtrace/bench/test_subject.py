"""Random weights fire as often as asked, and a subject is the same on the other side of a process."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

import gpt2jax
from svdtrace import bench
from svdtrace.bench.subject import firings_per_prompt, gain_for, sharpened
from svdtrace.tracing.trace import trace

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=4, d_model=32, d_mlp=64, n_ctx=24, d_vocab=40)


@pytest.mark.parametrize("asked", [10, 30])
def test_queries_and_keys_are_scaled_to_the_firings_asked_for(asked: int):
    prompts = bench.random_prompts(CONFIG, 16, 21)
    model, gain = bench.firing_model(CONFIG, prompts, asked)
    # Few prompts: one firing more or less is what the search can hit.
    assert firings_per_prompt(model, prompts) == pytest.approx(asked, rel=0.05)
    assert gain > 1


@pytest.mark.whole
def test_firings_are_counted_as_a_trace_counts_them():
    prompts = bench.random_prompts(CONFIG, 16, 21)
    model, _ = bench.firing_model(CONFIG, prompts, 30)
    assert trace(model, prompts).firings.num_rows == round(firings_per_prompt(model, prompts) * len(prompts))


def test_more_firings_than_there_can_be_give_the_most_found():
    prompts = bench.random_prompts(CONFIG, 4, 21)
    model = gpt2jax.random_model(CONFIG, jax.random.key(0))
    most = firings_per_prompt(sharpened(model, gain_for(model, prompts, 10**6)), prompts)
    assert most >= firings_per_prompt(sharpened(model, gain_for(model, prompts, 30)), prompts)
    assert most <= 2 * 4 * 20


def test_biases_are_scaled_with_the_weights():
    model = gpt2jax.random_model(CONFIG, jax.random.key(0), biases=0.1)
    sharp = sharpened(model, 2.0).params.blocks
    for name in ("W_Q", "b_Q", "W_K", "b_K"):
        np.testing.assert_array_equal(getattr(sharp, name), 2 * getattr(model.params.blocks, name))


def test_a_subject_survives_being_written_down():
    subject = bench.Subject(source=None, shape=CONFIG, gain=3.5)
    again = bench.Subject.from_dict(json.loads(json.dumps(subject.to_dict())))
    assert again == subject
    both = subject.model(), again.model()
    np.testing.assert_array_equal(*(model.params.blocks.W_Q for model in both))
