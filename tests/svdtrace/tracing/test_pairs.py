"""Pairs that reach a threshold, listed from what the pass kept and from queries and keys, against a loop."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from small_model import jax_model, random_tokens, small_model

import gpt2jax
from svdtrace.config import TraceConfig
from svdtrace.method.firings import FiringList
from svdtrace.prompts import Prompt
from svdtrace.tracing.batching import Batch, batches
from svdtrace.tracing.observe import Observed
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared, prepare

LENGTHS, LASTS, PADDED, NOT_FINITE = (12, 9, 12, 10), (11, 8, 6, 9), 12, 3
PATTERNS = "blocks.*.attn.hook_pattern"
SCORES = "blocks.*.attn.hook_attn_scores"


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(jax_model(*small_model(n_layers=3)), TraceConfig())


@pytest.fixture(scope="module")
def batch(prepared: Prepared) -> Batch:
    rows = random_tokens(4, PADDED, {"d_vocab": prepared.model.config.d_vocab}, seed=4).tolist()
    prompts = [
        Prompt(None, tuple(row[:length]), tuple(map(str, row[:length])), {"end": last})
        for row, length, last in zip(rows, LENGTHS, LASTS, strict=True)
    ]
    (made,) = batches(prompts, (PADDED,), "auto", prepared.model.config.n_heads, "cpu")
    return made


def seen(prepared: Prepared, batch: Batch, config: TraceConfig) -> Observed:
    """A pass in which one prompt is said not to be finite."""
    observed = watch(prepared, batch, config)
    finite = observed.finite & (jax.numpy.arange(len(observed.finite)) != NOT_FINITE)
    return replace(observed, finite=finite)


def named(found: FiringList) -> list[tuple[int, ...]]:
    columns = (found.prompt, found.layer, found.head, found.dest, found.src)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def rounding(prepared: Prepared, observed: Observed, found: FiringList) -> tuple[np.ndarray, np.ndarray]:
    """How far two float32 computations of the same q̂ and k̂ may lie apart, in a pattern and in a score: twice a sum's
    `h eps |q̂| |k̂|`, and of a pattern to first order twice the row's largest such error and its own sum's rounding.
    """
    eps, h = float(np.finfo("f4").eps), prepared.model.config.d_head
    q, k = (np.linalg.norm(np.asarray(each, float), axis=-1) for each in (observed.q, observed.k))
    size = q[found.layer, found.prompt, found.dest, found.head] * np.asarray(prepared.score_scale)[found.layer]
    every = 2 * h * eps * size[:, None] * k[found.layer, found.prompt, :, found.head]
    row = every.max(axis=-1)
    return found.pattern * (2 * row + 2 * PADDED * eps), row


@pytest.mark.parametrize("skip_first", [True, False])
def test_a_low_threshold_lists_what_a_loop_does(prepared: Prepared, batch: Batch, skip_first: bool):
    """Catches pairs of padding, behind the last traced token, of prompts that are not finite, at the first token; a
    layer that is left out, and a threshold of another destination.
    """
    config = TraceConfig(threshold=0.05, skip_first=skip_first)
    observed = seen(prepared, batch, config)
    assert observed.candidates is None
    least = 0.02 + 0.01 * np.arange(PADDED)
    found = pairs_of(prepared, observed, config, least)
    mask = np.arange(PADDED) < batch.length[:, None]
    taps = gpt2jax.forward(prepared.model, batch.tokens, mask=mask, taps=[PATTERNS, SCORES]).taps
    pattern, score = np.asarray(taps[PATTERNS]), np.asarray(taps[SCORES])
    expected = [
        (prompt, layer, head, dest, src)
        for prompt in range(NOT_FINITE)
        for layer in range(3)
        for head in range(prepared.model.config.n_heads)
        for dest in range(LASTS[prompt] + 1)
        for src in range(1 if skip_first else 0, dest + 1)
        if pattern[layer, prompt, head, dest, src] >= least[dest]
    ]
    assert named(found) == expected
    assert len(expected) > 100
    at = (found.layer, found.prompt, found.head, found.dest, found.src)
    of_pattern, of_score = rounding(prepared, observed, found)
    assert np.all(np.abs(found.pattern - pattern[at]) <= of_pattern)
    assert np.all(np.abs(found.score - score[at]) <= of_score)


def test_both_ways_list_the_same(prepared: Prepared, batch: Batch):
    """Catches a way of its own for what counts as a pair."""
    config = TraceConfig(threshold=0.3)
    observed = watch(prepared, batch, config)
    kept, made = (pairs_of(prepared, each, config) for each in (observed, replace(observed, candidates=None)))
    assert named(kept) == named(made)
    assert len(kept) > 20
    of_pattern, of_score = rounding(prepared, observed, kept)
    assert np.all(np.abs(kept.pattern - made.pattern) <= of_pattern)
    assert np.all(np.abs(kept.score - made.score) <= of_score)
