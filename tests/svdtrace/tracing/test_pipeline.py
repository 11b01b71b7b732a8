"""Batch after batch: what one leaves in memory that another takes over, and what threads dispatch side by side."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from small_model import jax_model, random_tokens, small_model

import svdtrace.tracing.prepare
import svdtrace.tracing.relative
import svdtrace.tracing.trace
from svdtrace.config import TraceConfig
from svdtrace.prompts import Prompt
from svdtrace.tracing.attribute import attribute, collect
from svdtrace.tracing.batching import Batch, Plan, batches
from svdtrace.tracing.observe import Observed, observe
from svdtrace.tracing.pairs import firings_of
from svdtrace.tracing.pipeline import follow, read_rows, warm, watch
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.trace import Settled, trace_settled

CONFIG = TraceConfig(threshold=0.3, writers="all")
LENGTHS = (8, 5, 7)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(jax_model(*small_model(n_layers=4)), CONFIG)


def batch_of(prepared: Prepared, seed: int, n_tokens: int = 8) -> Batch:
    """Prompts of several lengths, padded with a row to four."""
    rows = random_tokens(3, n_tokens, {"d_vocab": prepared.model.config.d_vocab}, seed=seed)
    kept = [row[:length] for row, length in zip(rows.tolist(), LENGTHS, strict=True)]
    prompts = [Prompt(None, tuple(row), tuple(map(str, row)), {}) for row in kept]
    (batch,) = batches(prompts, (n_tokens,), "auto", prepared.model.config.n_heads, "cpu")
    return batch


def assert_equal(found: object, expected: object) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("writers", ["heads", "all"])
def test_memory_taken_over_from_another_batch(prepared: Prepared, writers: str):
    """Catches values of the batch before that show through, and memory that is not taken over."""
    config = replace(CONFIG, writers=writers)
    batch, other = batch_of(prepared, 1), batch_of(prepared, 2)
    expected = watch(prepared, batch, config)
    before = watch(prepared, other, config)
    assert not np.array_equal(before.z, expected.z)
    assert_equal(watch(prepared, batch, config, before), expected)
    for array in (before.q, before.k, before.z):
        assert array.is_deleted()
    assert before.mlp_out is None or before.mlp_out.is_deleted()


def test_memory_of_another_shape_is_left_alone(prepared: Prepared):
    """Catches a batch of another length that is written into memory too small or too large for it."""
    batch, longer = batch_of(prepared, 1), batch_of(prepared, 2, n_tokens=10)
    before = watch(prepared, longer, CONFIG)
    kept = np.array(before.z)
    assert_equal(watch(prepared, batch, CONFIG, before), watch(prepared, batch, CONFIG))
    np.testing.assert_array_equal(before.z, kept)


@pytest.mark.full
def test_threads_find_what_one_finds(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    """Catches layers out of order, and settings that a thread does not have."""
    config = replace(CONFIG, dtype="float64")
    with svdtrace.tracing.devices.precision(config):
        exact = prepare(jax_model(*small_model(n_layers=4)), config)
        batch = batch_of(exact, 1)
        found = []
        for cores in (1, 3):
            monkeypatch.setattr(svdtrace.tracing.prepare, "usable_cores", lambda cores=cores: cores)
            assert exact.threads == cores
            found.append(follow(exact, batch, watch(exact, batch, config), config, roots=()).chunks)
    one, three = found
    assert len(one) > 2
    for mine, other in zip(one, three, strict=True):
        np.testing.assert_array_equal(mine.row, other.row)
        assert mine.result.weight.dtype == np.float64
        assert_equal(mine.result, other.result)


@pytest.mark.parametrize(
    "method", [pytest.param("exact", marks=pytest.mark.whole), pytest.param("paper", marks=pytest.mark.full)]
)
def test_what_is_compiled_beforehand_is_what_is_called(prepared: Prepared, method: str):
    """Catches programs compiled for other shapes, types or settings than firings come in."""
    config = replace(CONFIG, method=method, tau=0.9)
    batch = batch_of(prepared, 1)
    observed = watch(prepared, batch, config)
    warm(prepared, observed, config)
    compiled = collect._cache_size(), attribute._cache_size()
    chunks = follow(prepared, batch, observed, config, roots=()).chunks
    forward = observe._cache_size()
    watch(prepared, batch, config, observed)
    assert observe._cache_size() == forward
    assert {chunk.writer_layers for chunk in chunks} == {2, 3}
    assert (collect._cache_size(), attribute._cache_size()) == compiled


@pytest.mark.whole
def test_memory_is_let_go_before_a_batch_of_another_length(prepared: Prepared, monkeypatch: pytest.MonkeyPatch):
    """Catches two batches in memory where the second cannot take over the first one's."""
    passed = []

    def watched(prepared: Prepared, batch: Batch, config: TraceConfig, before: Observed | None) -> Observed:
        passed.append(None if before is None else before.scale.shape[2])
        return watch(prepared, batch, config, before)

    monkeypatch.setattr(svdtrace.tracing.trace, "watch", watched)
    rows = random_tokens(8, 8, {"d_vocab": prepared.model.config.d_vocab}).tolist()
    prompts = [
        Prompt(None, tuple(row[:length]), tuple(map(str, row[:length])), {}) for row in rows for length in (5, 8)
    ]
    trace_settled(prepared, prompts, CONFIG, Settled(roots=(), plan=Plan((5, 8), (4, 4))))
    assert passed == [None, 5, None, 8]


@pytest.mark.parametrize("processing", ["raw", "folded"])
def test_what_was_written_stands_by_keys(processing: str):
    """Catches a layer's place, a component's or another γ's norm, and room of another batch that shows through."""
    config = TraceConfig(method="relative", threshold=0.3, processing=processing)
    prepared = prepare(jax_model(*small_model(n_layers=4)), config)
    batch = batch_of(prepared, 1)
    found = watch(prepared, batch, config, watch(prepared, batch_of(prepared, 2), config))
    assert found.keys is not None
    assert found.keys.norms is not None
    assert found.mlp_out is not None
    np.testing.assert_array_equal(found.keys.z, np.swapaxes(found.z, 2, 3))
    written = np.asarray([*found.mlp_out, found.embed, found.pos], np.float64)
    ln1 = prepared.model.params.blocks.ln1
    gains = np.ones((1, written.shape[-1])) if ln1 is None else np.asarray(ln1.w, np.float64)
    centred = written - written.mean(axis=-1, keepdims=True)
    expected = np.linalg.norm(gains[:, None] * centred[:, :, None], axis=-1)
    # Two sums over d_model, of squares and of what is centred.
    within = 2 * written.shape[-1] * np.finfo(np.float32).eps
    bound = np.linalg.norm(written, axis=-1)[:, :, None] * np.abs(gains).max() * within
    assert found.keys.norms.shape == expected.shape == (6, 4, len(gains), 8)
    assert np.all(np.abs(found.keys.norms - expected) <= bound)


def test_firings_of_a_prompt_are_read_together(monkeypatch: pytest.MonkeyPatch):
    """Catches calls that part the prompts by head, firings that no call reads, and one that two read."""
    config = TraceConfig(method="relative", threshold=0.05)
    prepared = prepare(jax_model(*small_model(n_layers=4)), config)
    batch = batch_of(prepared, 1)
    observed = watch(prepared, batch, config)
    firings, _ = firings_of(prepared, observed, batch.place, config)
    rows = np.flatnonzero(firings.layer == 2)
    whole = [chunk.row[chunk.row >= 0] for chunk in read_rows(prepared, observed, firings, config, 2, rows)]
    monkeypatch.setattr(svdtrace.tracing.relative, "MOST_BLOCKS", 4)
    parts = [chunk.row[chunk.row >= 0] for chunk in read_rows(prepared, observed, firings, config, 2, rows)]
    assert len(whole) == 1
    assert len(parts) > 1
    assert sorted(np.concatenate(parts)) == sorted(whole[0]) == sorted(rows)
    prompts = [set(firings.prompt[part]) for part in parts]
    assert sum(map(len, prompts)) < len(set(firings.prompt[rows])) + len(parts)
