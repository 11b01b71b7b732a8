"""The laws that every trace tries: in its manifest, and told where one fails."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from laws.examples import one_batch, random_model, random_prompts

from svdtrace.config import TraceConfig
from svdtrace.errors import SvdtraceWarning
from svdtrace.tracing.laws import finite, shapes
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.trace import trace_prepared

CONFIG = TraceConfig(writers="all")
PROMPTS = random_prompts(2)
CHEAPEST = ["shapes", "finite", "rebuilt", "products_summed"]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(random_model(3), CONFIG)


def verdicts(prepared: Prepared) -> dict[str, str]:
    found = trace_prepared(prepared, PROMPTS, CONFIG).manifest["laws"]
    assert [each["law"] for each in found] == CHEAPEST
    return {each["law"]: each["verdict"] for each in found if each["verdict"] != "holds"}


@pytest.mark.parametrize("processing", ["folded", pytest.param("raw", marks=pytest.mark.full)])
def test_they_hold(processing: str) -> None:
    assert verdicts(prepare(random_model(3), TraceConfig(writers="all", processing=processing))) == {}


@pytest.mark.parametrize(
    ("which", "broken"),
    [(0, {"rebuilt", "products_summed"}), (2, {"rebuilt"}), (4, {"rebuilt"})],
)
def test_what_is_off_is_told(prepared: Prepared, which: int, broken: set[str]) -> None:
    """A, U or V of the sampled heads are off by a hundredth of their entries."""
    sample = list(prepared.sample)
    rng = np.random.default_rng(0)
    sample[which] = sample[which] * jnp.asarray(1 + 0.1 * rng.normal(size=sample[which].shape), jnp.float32)
    with pytest.warns(SvdtraceWarning, match=r"the law \w+ fails at .*svdtrace verify"):
        found = verdicts(replace(prepared, sample=tuple(sample)))
    assert found == dict.fromkeys(broken, "fails")


def test_what_is_no_number_is_told(prepared: Prepared) -> None:
    A, B, U, S, V = prepared.sample
    assert finite(prepared).holds
    assert finite(replace(prepared, sample=(A, B, U.at[0, 0, 0].set(jnp.nan), S, V))).worst_at == "U"


def test_an_axis_of_another_length_is_told(prepared: Prepared) -> None:
    batch = one_batch(PROMPTS)
    observed = watch(prepared, batch, CONFIG)
    assert shapes(prepared, batch, observed).holds
    found = shapes(prepared, one_batch(PROMPTS[:2]), observed)
    assert found.value == 3
    assert found.worst_at == "q"
