"""Every row of interventions against brute-force loops in float64."""

from __future__ import annotations

import itertools

import jax
import oracle
import pytest
from interventions_check import SETS, TRACING, check
from oracle_model import oracle_model

import gpt2jax
from svdtrace.interventions.intervening import intervene
from svdtrace.interventions.settings import InterventionConfig
from svdtrace.prompts import Prompt


@pytest.fixture(autouse=True)
def _indices_and_floats_of_64_bits():
    """In float64 JAX counts in 64 bits beside the 32 of tokens; float32 is held to strict types elsewhere."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def truth(model: gpt2jax.Model) -> oracle.Model:
    return oracle.prepare(*oracle_model(model), "folded")


@pytest.mark.whole
@pytest.mark.parametrize(
    ("method", "control", "sets"), [("paper", "random", SETS), ("exact", "norm", SETS[:9]), ("joint", "norm", SETS[7:])]
)
def test_every_row_is_the_oracles(
    model: gpt2jax.Model, prompts: list[Prompt], truth: oracle.Model, method: str, control: str, sets: list[str]
):
    config = InterventionConfig(method=method, control=control, seed=5)
    found = intervene(model, prompts, sets, config, tracing=TRACING)
    rows = found.table.select(["prompt", "edges", "where", "direction", "control", "seed"]).to_pylist()
    controls = [("none", None), (control, 5)]
    wanted = itertools.product(range(len(prompts)), sets, ("global", "local"), ("ablate", "boost"), controls)
    assert [tuple(row.values()) for row in rows] == [(*each[:4], *each[4]) for each in wanted]
    assert check(found, truth, prompts, config) > len(rows) / 4
