"""What tables do not depend on: batches, buckets and their order, parts, and where a sweep was stopped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import svdtrace
from gpt2jax import Model
from laws.examples import LENGTHS, few, random_model, random_prompts, seeds, shortened
from svdtrace.config import TraceConfig
from svdtrace.prompts import Prompt
from svdtrace.testing import Case, assert_hold
from svdtrace.testing.comparing import FIRING, by_key, compared
from svdtrace.tracing.batching import Plan, planned_batches
from svdtrace.tracing.near_ties import NAMED
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.trace import Settled, Trace, trace_settled

# Few shapes, since each is compiled: two lengths to pad to, two batch sizes.
EDGES = ((12,), (7, 12))
SIZES = (2, 3)
CONFIG = TraceConfig()


@cache
def model() -> Model:
    return shortened(random_model(3), 5)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(model(), CONFIG)


def cased(prepared: Prepared, prompts: list[Prompt]) -> Case:
    return Case(model(), tuple(prompts), CONFIG).put(prepared=prepared, decomposition=prepared.decomposition)


def assert_alike(one: Case, other: Trace) -> None:
    """The same tables; whatever fires in one alone is counted in both manifests."""
    assert_hold([compared("the same", one, one.put(trace=other))])
    apart = by_key(one.trace.firings, FIRING).keys() ^ by_key(other.firings, FIRING).keys()
    for each in (one.trace, other):
        assert len(apart) <= each.manifest["near_ties"]["pairs"]
    assert one.trace.firings.num_rows
    assert one.trace.prompts.drop_columns("logit_difference").equals(other.prompts.drop_columns("logit_difference"))
    assert one.trace.manifest["prompts"]["sha256"] == other.manifest["prompts"]["sha256"]


@pytest.mark.full
@few
@given(seed=seeds, edges=st.sampled_from(EDGES), sizes=st.tuples(*[st.sampled_from(SIZES)] * 2), turned=st.booleans())
def test_batches_and_buckets_change_nothing(
    prepared: Prepared, seed: int, edges: tuple[int, ...], sizes: tuple[int, int], turned: bool
) -> None:
    """Catches rows of another bucket's prompts, and values that depend on how far a prompt is padded."""
    prompts = random_prompts(seed)
    plan = Plan(edges, sizes[: len(edges)])
    with pytest.MonkeyPatch.context() as patch:
        if turned:
            patch.setattr(
                "svdtrace.tracing.trace.planned_batches", lambda *given: reversed(list(planned_batches(*given)))
            )
        other = trace_settled(prepared, prompts, CONFIG, Settled(roots=(), plan=plan))
    assert_alike(cased(prepared, prompts), other)


class StoppedError(Exception):
    """What a test does to a sweep between two parts."""


@pytest.mark.whole
@few
@given(
    seed=seeds,
    part_size=st.sampled_from([1, 2, 4]),
    size=st.sampled_from(SIZES),
    stops=st.lists(st.integers(1, 3), max_size=2),
)
def test_parts_and_restarts_change_nothing(
    prepared: Prepared, seed: int, part_size: int, size: int, stops: list[int]
) -> None:
    """Catches prompts numbered within their part, parts lost or done twice, and a plan that a restart settles anew."""
    prompts = random_prompts(seed)
    config = TraceConfig(batch_size=size)
    with TemporaryDirectory() as folder:
        for stop in stops:
            calls = 0

            def told(_progress: Any, stop: int = stop) -> None:
                nonlocal calls
                calls += 1
                if calls == stop:
                    raise StoppedError

            # What is there already is told of too, so a later stop may come before anything new is done, or never.
            try:
                svdtrace.sweep(model(), prompts, folder, config, part_size=part_size, progress=told)
            except StoppedError:
                assert calls == stop
        svdtrace.sweep(model(), prompts, folder, config, part_size=part_size)
        swept = svdtrace.read(folder)
        assert len(list((Path(folder) / "prompts").iterdir())) == -(-len(LENGTHS) // part_size)
    assert_alike(cased(prepared, prompts), swept)
    ties = swept.manifest["near_ties"]
    assert ties["firings"] == sum(swept.firings["near_tie"].to_pylist())
    slices = [row for row in swept.firings.to_pylist() if row["near_tie"]]
    wanted = ["prompt {prompt}: {layer}.{head}@{dest}:{src} (slice)".format(**row) for row in slices]
    named = [name for name in ties["named"] if name.endswith("(slice)")]
    assert named == wanted[: len(named)]
    assert len(named) == len(wanted) or len(ties["named"]) == NAMED < ties["places"]
