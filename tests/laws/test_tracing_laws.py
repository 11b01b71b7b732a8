"""What holds of every trace: sums, invariances, monotony."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt2jax
from laws.comparison import FIRING, assert_same, assert_same_firings, by_key
from laws.examples import (
    CONFIG,
    Drawn,
    Rounding,
    few,
    models,
    one_batch,
    prompt,
    random_model,
    random_prompts,
    seeds,
    shortened,
)
from svdtrace.config import TraceConfig
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.method.decomposition import Decomposition, decompose
from svdtrace.method.firings import list_firings
from svdtrace.tracing.pipeline import attributed, watch
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.trace import Trace, trace_prepared

ORDER = [(name, "ascending") for name in (*FIRING, "side", "writer_layer", "writer_head", "writer")]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(shortened(random_model(3), 5), TraceConfig())


def tables(trace: Trace) -> tuple[pa.Table, pa.Table]:
    return trace.firings, trace.edges


def moved(table: pa.Table, places: list[int]) -> pa.Table:
    """The table with prompt p called `places[p]`."""
    prompt = pa.array(np.asarray(places, np.int32)[table["prompt"].to_numpy()])
    return table.set_column(0, table.schema.field(0), prompt)


@pytest.mark.parametrize("processing", ["raw", "folded"])
@few
@given(drawn=models, seed=seeds)
def test_exact_explains_everything(processing: str, drawn: Drawn, seed: int) -> None:
    """Catches a writer that is forgotten and a scale or bias misplaced: all c_w of a side sum to Σ_{k∈S} p_k."""
    model = drawn.model()
    config = TraceConfig(writers="all", processing=processing)
    prepared = prepare(model, config)
    batch = one_batch(random_prompts(seed))
    observed = watch(prepared, batch, config)
    firings = list_firings(observed.candidates, config.threshold, config.score_min)
    root = np.sqrt(np.asarray(prepared.decomposition.S[..., 0]))
    seen = 0
    for layer in range(1, CONFIG.n_layers):
        for chunk in attributed(prepared, observed, firings, layer, config):
            row = chunk.row[chunk.row >= 0]
            result = jax.tree.map(
                lambda each, filled=chunk.row >= 0: np.asarray(each)[..., filled, :], chunk.result.weight
            )
            weight = np.where(np.isfinite(result), result, 0)
            members = np.asarray(chunk.result.slices.members)[chunk.row >= 0]
            explained = np.sum(np.asarray(chunk.result.products)[chunk.row >= 0], axis=-1, where=members)
            prompts, heads = firings.prompt[row], firings.head[row]
            q = np.linalg.norm(np.asarray(observed.q)[layer, prompts, firings.dest[row], heads], axis=-1)
            k = np.linalg.norm(np.asarray(observed.k)[layer, prompts, firings.src[row], heads], axis=-1)
            # The products' bound, and that of terms which cancel one another.
            size = (q + root[layer, heads]) * (k + root[layer, heads]) + np.abs(weight).sum(axis=-1)
            assert np.all(np.abs(weight.sum(axis=-1) - explained) <= ACTIVATION_ERROR * size)
            seen += len(row)
    assert seen == len(firings) > 0


@few
@given(seed=seeds, later=seeds)
def test_later_tokens_change_nothing(prepared: Prepared, seed: int, later: int) -> None:
    """Catches a look ahead: of two prompts alike up to `end`, the rest must not matter."""
    rng = np.random.default_rng(later)
    prompts = random_prompts(seed)
    changed = [
        prompt(
            np.concatenate([each.tokens[: each.last + 1], rng.integers(0, 40, len(each.tokens) - each.last - 1)]),
            each.roles,
        )
        for each in prompts
    ]
    assert changed != prompts
    config = TraceConfig()
    one, other = (tables(trace_prepared(prepared, each, config)) for each in (prompts, changed))
    assert assert_same(one, other, Rounding.of(prepared, prompts, config)) > 0


@few
@given(seed=seeds, order=st.permutations(range(6)))
def test_the_order_of_prompts_changes_nothing(prepared: Prepared, seed: int, order: list[int]) -> None:
    """Catches rows that are given to another prompt of the batch."""
    prompts, config = random_prompts(seed), TraceConfig()
    one = tables(trace_prepared(prepared, prompts, config))
    firings, edges = tables(trace_prepared(prepared, [prompts[place] for place in order], config))
    assert firings["prompt"].to_pylist() == sorted(firings["prompt"].to_pylist())
    assert assert_same(one, (moved(firings, order), moved(edges, order)), Rounding.of(prepared, prompts, config)) > 0


@few
@given(seed=seeds, size=st.sampled_from([1, 4]))
def test_batch_size_changes_nothing(prepared: Prepared, seed: int, size: int) -> None:
    """Catches prompts of a batch that see one another, and filling rows that fire."""
    prompts = random_prompts(seed)
    one = tables(trace_prepared(prepared, prompts, TraceConfig()))
    other = tables(trace_prepared(prepared, prompts, TraceConfig(batch_size=size)))
    assert assert_same(one, other, Rounding.of(prepared, prompts, TraceConfig())) > 0


@few
@given(seed=seeds)
def test_padding_changes_nothing(prepared: Prepared, seed: int) -> None:
    """Catches padding that is attended to, fires, or shifts positions: a prompt alone has no padding at all."""
    prompts, config, place = random_prompts(seed), TraceConfig(), 2
    firings, edges = tables(trace_prepared(prepared, prompts, config))
    together = tuple(table.filter(pc.equal(table["prompt"], place)) for table in (firings, edges))
    alone = tuple(moved(table, [place]) for table in tables(trace_prepared(prepared, [prompts[place]], config)))
    assert assert_same(together, alone, Rounding.of(prepared, prompts, config)) > 0


@few
@given(drawn=models, seed=seeds)
def test_raw_and_folded_fire_alike(drawn: Drawn, seed: int) -> None:
    """Catches a trace that decides firings by something that folding changes."""
    model = drawn.model()
    prompts = random_prompts(seed)
    raw, folded = (
        trace_prepared(prepare(model, config), prompts, config).firings
        for config in (TraceConfig(processing="raw"), TraceConfig(processing="folded"))
    )
    one, other = by_key(raw, FIRING), by_key(folded, FIRING)
    assert one
    assert_same_firings(one, other)


@pytest.mark.parametrize("method", ["exact", "paper"])
@few
@given(seed=seeds, signs=seeds)
def test_signs_of_singular_vectors_change_no_edge(prepared: Prepared, method: str, seed: int, signs: int) -> None:
    """Catches contributions that hang on the sign of a pair (u, v). Turning a sign is exact, so tables are equal."""

    def flipped(model: gpt2jax.Model) -> Decomposition:
        parts = decompose(model)
        sign = jnp.asarray(np.random.default_rng(signs).choice([-1.0, 1.0], parts.S.shape), jnp.float32)[..., None, :]
        return parts.replace(U=parts.U * sign, V=parts.V * sign)

    prompts, config = random_prompts(seed), TraceConfig(method=method)
    other = prepare(shortened(random_model(3), 5), config, flipped)
    one, two = trace_prepared(prepared, prompts, config), trace_prepared(other, prompts, config)
    assert one.edges.num_rows
    assert one.firings.equals(two.firings)
    assert one.edges.equals(two.edges)
