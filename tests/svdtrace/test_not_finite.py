"""Prompts whose activations are not finite, in every room: counted, named, in no table, and the others as without them.

All of it under JAX's own checks (no NaN as a result, no silent broadcasting), which people have in their profiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pytest
from small_model import jax_model, random_tokens, small_model

import gpt2jax
import svdtrace
from svdtrace.errors import ModelError
from svdtrace.faithfulness.measured import Settings
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.prompts import Prompt

BAD, N_TOKENS = 5, 7
CONFIG = svdtrace.TraceConfig(threshold=0.3)
EVERYONE = svdtrace.TraceConfig(threshold=0.3, processing="raw", writers="all", roots="logit")


@pytest.fixture(autouse=True)
def _checks_of_jax() -> Iterator[None]:
    with jax.debug_nans(True), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    """One token's embedding is finite, and its square is not; one head has no queries, so that its Ω is 0."""
    params, config = small_model(n_layers=2)
    params["W_E"][BAD] = 1e30 * np.sign(params["W_E"][BAD])
    params["W_Q"][1, 2], params["b_Q"][1, 2] = 0, 0
    return jax_model(params, config)


def prompts_of(bad: Sequence[bool]) -> list[Prompt]:
    """Prompts of one length, some with an answer; those marked have the token in their midst."""
    rows = random_tokens(len(bad), N_TOKENS, {"d_vocab": 23}, seed=1)
    rows[rows == BAD] = 0
    found = []
    for place, row in enumerate(rows):
        row[3] = BAD if bad[place] else row[3]
        asked = {"answer": 3, "distractor": 4} if place != 1 else {}
        tokens = tuple(map(int, row))
        found.append(Prompt(f"p{place}", tokens, tuple(map(str, tokens)), {"A": 2, "end": 5}, **asked))
    return found


MIXED, ALL = [False, False, True, False], [True, True]
NAMED = {"prompts": 1, "named": ['prompt 2 ("p2")']}


def traced(model: gpt2jax.Model, prompts: list[Prompt]) -> tuple[Any, list[pa.Table]]:
    found = svdtrace.trace(model, prompts, EVERYONE)
    return found.manifest, [found.prompts, found.firings, found.edges]


def intervened(model: gpt2jax.Model, prompts: list[Prompt]) -> tuple[Any, list[pa.Table]]:
    settings = InterventionConfig(where="local", method="joint", norm="recomputed", flow=True)
    found = svdtrace.intervene(model, prompts, ["0.1:1.1@5:2/dest,0.1:1.1@5:2/src"], settings, tracing=CONFIG)
    return found.manifest, [found.table, found.measures]


def held_against_chance(model: gpt2jax.Model, prompts: list[Prompt]) -> tuple[Any, list[pa.Table]]:
    found = svdtrace.chance(model, prompts, CONFIG, nulls=1)
    assert all(np.isfinite(each).all() for each in (*found.observed.values(), *found.null.values()))
    return found.summary, [pa.table({"key": found.candidates.key, "statistic": found.statistic})]


def characterised(model: gpt2jax.Model, prompts: list[Prompt]) -> tuple[Any, list[pa.Table]]:
    found = svdtrace.characterise(model, prompts, None, CONFIG)
    return found.manifest, list(found.tables.values())


ROOMS = {"trace": traced, "intervene": intervened, "chance": held_against_chance, "characterise": characterised}


@pytest.mark.parametrize(
    "room",
    [
        "trace",
        pytest.param("intervene", marks=pytest.mark.whole),
        *(pytest.param(name, marks=pytest.mark.full) for name in ("chance", "characterise")),
    ],
)
def test_they_are_named_and_in_no_table(model: gpt2jax.Model, room: str) -> None:
    """Catches NaN in a table, a row of such a prompt, prompts renumbered, and a batch spoilt by one of its prompts."""
    run: Callable[[gpt2jax.Model, list[Prompt]], tuple[Any, list[pa.Table]]] = ROOMS[room]
    prompts = prompts_of(MIXED)
    said, tables = run(model, prompts)
    assert said["not_finite"] == NAMED
    good = [prompt for prompt, bad in zip(prompts, MIXED, strict=True) if not bad]
    alone, expected = run(model, good)
    assert alone["not_finite"] == {"prompts": 0, "named": []}
    places = np.flatnonzero(~np.asarray(MIXED))
    for table, other in zip(tables, expected, strict=True):
        if "prompt" in other.column_names:
            numbers = pa.array(places[other["prompt"].to_numpy()].astype(np.int32))
            other = other.set_column(
                other.column_names.index("prompt"), other.schema.field("prompt"), numbers.cast(pa.int32())
            )
        assert_same(table, other)
    assert any(table.num_rows for table in tables)
    with pytest.raises(ModelError, match="all 2 prompts are not finite"):
        run(model, prompts_of(ALL))


def assert_same(table: pa.Table, other: pa.Table) -> None:
    """Equal but for the rounding of sums whose terms stand elsewhere in a batch; no NaN, no infinity."""
    assert table.schema == other.schema
    for name in table.column_names:
        mine, theirs = table[name], other[name]
        if not pa.types.is_floating(mine.type):
            assert mine.equals(theirs), name
            continue
        assert mine.null_count == theirs.null_count
        values = mine.drop_null().to_numpy()
        assert np.isfinite(values).all()
        assert values == pytest.approx(theirs.drop_null().to_numpy(), rel=1e-4, abs=1e-5), name


@pytest.mark.whole
def test_a_sweep_counts_them_over_all_parts(model: gpt2jax.Model, tmp_path: Path) -> None:
    """Catches numbers of a part taken for those of the whole, and an end as if all were well."""
    found = svdtrace.sweep(model, iter(prompts_of(MIXED)), tmp_path / "out", CONFIG, part_size=2)
    assert found.manifest["not_finite"] == NAMED
    assert found.manifest["prompts"]["count"] == 3
    read = svdtrace.read(tmp_path / "out")
    assert read.manifest["not_finite"] == NAMED
    with pytest.raises(ModelError, match="all 2 prompts are not finite"):
        svdtrace.sweep(model, iter(prompts_of(ALL)), tmp_path / "none", CONFIG)


@pytest.mark.full
def test_a_circuit_leaves_them_out(model: gpt2jax.Model) -> None:
    """Catches means that one such prompt makes NaN, where a trace still has it."""
    good = [False] * 4
    trace = svdtrace.trace(model, prompts_of(good), CONFIG)
    tokens = trace.prompts["tokens"].to_pylist()
    tokens[2][3] = BAD
    place = trace.prompts.column_names.index("tokens")
    spoilt = trace.prompts.set_column(place, trace.prompts.schema.field(place), pa.array(tokens, pa.list_(pa.int32())))
    given = svdtrace.Trace(spoilt, trace.firings, trace.edges, trace.manifest)
    found = svdtrace.circuit(model, given, Settings(points=1, seeds=1, patched=2))
    assert found.manifest["not_finite"] == NAMED
    assert found.manifest["prompts"]["used"] == 2
    for table in (found.faithfulness, found.agreement, found.output_heads):
        for column in table.columns:
            if pa.types.is_floating(column.type):
                assert np.isfinite(column.drop_null().to_numpy()).all()
