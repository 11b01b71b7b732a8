"""A part is a third of a minute's work, measured once; a sweep that goes on takes what it began with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweep_prompts import prompt

import svdtrace
from svdtrace.sweeping import parts, sizes
from svdtrace.sweeping.sizes import PART_SECONDS, part_tokens
from svdtrace.tracing.batching import Plan
from svdtrace.tracing.trace import Settled

CONFIG = svdtrace.TraceConfig(threshold=0.3, batch_size=2)
PROMPTS = [prompt(number) for number in range(8)]
# Lengths are 4 to 7.
PLAN = Plan(edges=(5, 7), sizes=(4, 4))


def measured(
    monkeypatch: pytest.MonkeyPatch, seconds: float, numbers: list[int], *, every: bool
) -> tuple[Any, list[int]]:
    """The tokens of a part where a batch takes so long, and the sizes of the batches that were traced."""
    times: Iterator[float] = iter([0.0, seconds])
    traced: list[int] = []
    monkeypatch.setattr(sizes, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    monkeypatch.setattr(sizes, "trace_settled", lambda _, prompts, *_rest: traced.append(len(prompts)))
    chosen = [PROMPTS[number] for number in numbers]
    anything: Any = None
    return part_tokens(anything, chosen, CONFIG, Settled((), PLAN), every=every), traced


def test_a_part_holds_what_its_seconds_allow(monkeypatch: pytest.MonkeyPatch):
    # Of lengths 6 and 7 there are most, a full batch of 28 tokens.
    assert measured(monkeypatch, 0.5, [0, 2, 3, 6, 7, 2], every=False) == (int(PART_SECONDS / 0.5 * 28), [4, 4])


def test_a_batch_that_is_not_full_is_taken_for_what_it_would_cost(monkeypatch: pytest.MonkeyPatch):
    assert measured(monkeypatch, 0.5, [2, 3], every=False) == (int(PART_SECONDS / 1.0 * 28), [2, 2])


def test_a_part_holds_one_batch_of_each_length_at_least(monkeypatch: pytest.MonkeyPatch):
    assert measured(monkeypatch, 1e4, list(range(8)), every=False)[0] == 4 * 5 + 4 * 7
    assert measured(monkeypatch, 1e4, [2, 3], every=False)[0] == 4 * 7


def test_nothing_is_measured_where_there_is_nothing_to_part(monkeypatch: pytest.MonkeyPatch):
    assert measured(monkeypatch, 1.0, list(range(8)), every=True) == (None, [])
    assert measured(monkeypatch, 1.0, [*range(8), 0], every=True)[0] is not None


@pytest.mark.full
def test_a_slow_sweep_has_small_parts_and_goes_on_with_them(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Catches tables that depend on how they are parted, and a sweep that goes on with parts of another size."""

    class StoppedError(Exception):
        pass

    def stop(progress: Any) -> None:
        if progress.done.prompts:
            raise StoppedError

    svdtrace.sweep(model, PROMPTS, tmp_path / "whole", CONFIG, part_size=len(PROMPTS))
    monkeypatch.setattr(sizes, "PART_SECONDS", 1e-9)
    with pytest.raises(StoppedError):
        svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, progress=stop)
    noted = json.loads((tmp_path / "out" / "manifest.json").read_text())["sweep"]
    # All lengths are in one bucket, batches are of two.
    assert (noted["part_size"], noted["part_tokens"], noted["bucket_edges"][0]) == (2048, 14, 7)
    assert parts.numbers(tmp_path / "out") == [0]
    monkeypatch.setattr(sizes, "PART_SECONDS", 1e9)
    starts: list[Any] = []
    svdtrace.sweep(model, PROMPTS, tmp_path / "out", CONFIG, started=starts.append)
    assert [(each.parts, each.there.prompts, each.measured, each.left) for each in starts] == [(1, 2, True, True)]
    assert parts.numbers(tmp_path / "out") == list(range(4))
    whole, out = (svdtrace.read(tmp_path / name) for name in ("whole", "out"))
    for name in ("prompts", "firings", "edges"):
        assert getattr(out, name).equals(getattr(whole, name))
