"""Every law of `svdtrace.testing` on drawn models and prompts, folded and raw."""

from __future__ import annotations

from dataclasses import fields

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import gpt2jax
from laws.examples import CONFIG, LONG, Drawn, few, models, random_model, random_prompts, seeds
from svdtrace.config import TraceConfig
from svdtrace.method.decomposition import decompose, query_key_factors
from svdtrace.prompts import Prompt
from svdtrace.testing import LAWS, Case, assert_hold, decomposition_laws, law, probabilities
from svdtrace.testing.explanations import edges_grow, slices_grow
from svdtrace.testing.invariances import signs_turned
from svdtrace.testing.listing import of_case
from svdtrace.testing.strategies import aim, heads, prompt_batches, with_head

# What compiles or computes for long is tried by the full tests.
SLOW = {
    *LONG,
    "saved_and_read",
    *(each.name for each in LAWS if each.function.__module__ == probabilities.__name__),
}
twice = settings(few, max_examples=2)
many = settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
# Whole numbers add up without rounding, and they tie often.
numbers = seeds.map(lambda seed: np.random.default_rng(seed).integers(-6, 7, (32, 8)).astype(np.float32))
# What raw weights could break: they are read through γ and β.
OF_RAW = ("rebuilt", "products_add_up", "writers_sum", "beyond_rank", "everything_explained", "edges_grow")


@twice
@given(drawn=models, seed=seeds, prompts=prompt_batches(CONFIG, longest=12))
def test_laws_hold(drawn: Drawn, seed: int, prompts: list[Prompt]) -> None:
    case = Case(drawn.model(), tuple(prompts), seed=seed)
    assert case.trace.edges.num_rows
    aim([of_case(each, case) for each in LAWS if each.name not in SLOW])


@pytest.mark.full
@few
@given(drawn=models, seed=seeds, prompts=prompt_batches(CONFIG, longest=12))
def test_every_law_holds(drawn: Drawn, seed: int, prompts: list[Prompt]) -> None:
    aim([of_case(each, Case(drawn.model(), tuple(prompts), seed=seed)) for each in LAWS if each.name in SLOW])


@twice
@given(drawn=models, seed=seeds)
def test_laws_hold_of_raw_weights(drawn: Drawn, seed: int) -> None:
    case = Case(drawn.model(), tuple(random_prompts(seed)), TraceConfig(writers="all", processing="raw"), seed)
    aim([of_case(law(name), case) for name in OF_RAW])
    assert len(case.attribution.firings)


@twice
@given(seed=seeds)
@pytest.mark.parametrize("method", ["paper", pytest.param("all", marks=pytest.mark.full)])
def test_signs_change_nothing_whatever_the_method(method: str, seed: int) -> None:
    case = Case(random_model(3), tuple(random_prompts(seed)), TraceConfig(method=method), seed)
    assert case.trace.edges.num_rows
    assert_hold([signs_turned(case)])


@pytest.mark.full
def test_p_values_of_nulls_are_uniform() -> None:
    assert_hold([of_case(law("p_values_uniform"), Case(random_model(0), ()))])


@many
@given(values=numbers)
def test_more_is_chosen_where_more_is_asked_for(values: np.ndarray) -> None:
    assert_hold([slices_grow(values), edges_grow(values)])


def ours(A: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, ...]:
    """U, S and V of one head by the decomposition that traces."""
    weights = {f"W_{name}": jnp.asarray(each[None, None, :-1]) for name, each in (("Q", A), ("K", B))}
    weights |= {f"b_{name}": jnp.asarray(each[None, None, -1]) for name, each in (("Q", A), ("K", B))}
    blocks = gpt2jax.Blocks(**{**dict.fromkeys(field.name for field in fields(gpt2jax.Blocks)), **weights})
    found = decompose(gpt2jax.Model(CONFIG, gpt2jax.Params(W_E=None, W_pos=None, blocks=blocks, ln_final=None)))
    return tuple(np.asarray(each)[0, 0] for each in (found.U, found.S, found.V))


@settings(few, max_examples=20)
@given(head=heads(d_model=16, d_head=4))
def test_every_kind_of_head_is_decomposed(head: tuple[np.ndarray, np.ndarray]) -> None:
    aim([*decomposition_laws(*head, *ours(*head)), law("signed").function(*head, *ours(*head))])


@pytest.mark.full
@settings(few, max_examples=100)
@given(head=heads())
def test_every_size_of_head_is_decomposed(head: tuple[np.ndarray, np.ndarray]) -> None:
    aim(decomposition_laws(*head, *ours(*head)))


@few
@given(kind=st.sampled_from(["equal", "clustered", "short", "zero"]), seed=seeds)
def test_a_model_keeps_the_singular_values_of_its_head(kind: str, seed: int) -> None:
    """The strategies' own law: what a kind promises is what a model is given."""
    model = with_head(random_model(1), kind, seed=seed)
    at = (CONFIG.n_layers - 1, seed % CONFIG.n_heads)
    A, B = (np.asarray(each[at], np.float64) for each in query_key_factors(model.params.blocks))
    values = np.linalg.svd(A @ B.T, compute_uv=False)[: CONFIG.d_head]
    ends = {"equal": (1, 1), "clustered": (0.5, 0.5), "short": (0, 0.99), "zero": (0, 0)}[kind]
    least, most = (end * values[0] * (1 + sign * 1e-5) for end, sign in zip(ends, (-1, 1), strict=True))
    assert least - 1e-5 <= values[-1] <= most + 1e-5 or kind == "zero"
    assert np.any(values) == (kind != "zero")
