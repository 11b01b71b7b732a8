"""Roots from the output by probability, and by a direction with heads split (METHOD.md, section 14.7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import oracle
import pytest
from oracle_model import oracle_model

import gpt2jax
import svdtrace
from svdtrace.errors import RootError
from svdtrace.prompts import Prompt
from svdtrace.tracing.batching import Batch, bucket_edges, plan_for, planned_batches
from svdtrace.tracing.devices import precision
from svdtrace.tracing.output_roots import Targets, parse_targets, probability_roots, split_root_heads
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared, prepare

CONFIG = gpt2jax.GPT2Config(n_layers=3, n_heads=2, d_model=8, d_mlp=12, n_ctx=12, d_vocab=17)
SETTINGS = svdtrace.TraceConfig(method="relative", roots="probability", dtype="float64", processing="raw")
PROMPTS = [
    Prompt(id=None, tokens=(1, 5, 2, 9, 4, 7), strings=("a",) * 6, roles={"end": 4}, answer=3, distractor=6),
    Prompt(id=None, tokens=(8, 3, 3, 11, 0, 16, 2), strings=("a",) * 7, roles={}),
    Prompt(id=None, tokens=(2, 2, 6, 1), strings=("a",) * 4, roles={}, answer=12, distractor=1),
]


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return gpt2jax.random_model(CONFIG, jax.random.key(1), std=0.8, biases=0.3)


@pytest.fixture(scope="module")
def watched(model: gpt2jax.Model) -> tuple[Prepared, Batch, Any]:
    with precision(SETTINGS):
        prepared = prepare(model, SETTINGS)
        lengths = [len(prompt.tokens) for prompt in PROMPTS]
        (batch,) = planned_batches(PROMPTS, plan_for(lengths, 4, CONFIG.n_heads, "cpu"))
        assert bucket_edges(lengths) == (7,)
        return prepared, batch, watch(prepared, batch, SETTINGS)


@pytest.mark.whole
@pytest.mark.parametrize("targets", ["answer", "top-p 0.6", "3,11,3"])
def test_probability_roots_are_the_oracles(model: gpt2jax.Model, watched: Any, targets: str) -> None:
    """Catches another token's parts, a rest that is not taken out, the wrong stop, and values that do not sum up."""
    prepared, batch, observed = watched
    wanted = parse_targets(targets, None, CONFIG)
    with precision(SETTINGS):
        found = probability_roots(
            prepared.model.params, observed, batch.last, prepared.score_scale, batch.answer, targets=wanted
        )
        attended, effect, target, probability = (
            np.asarray(each) for each in (found.attended, found.effect, found.target, found.probability)
        )
    truth = oracle.prepare(*oracle_model(model), "raw")
    some = 0
    for row, prompt in enumerate(batch.prompts):
        acts = oracle.forward(truth.params, truth.config, prompt.tokens)
        roots, effects, rest = oracle.probability_roots(truth, acts, prompt, targets)
        assert abs(rest) <= 1e-9
        assert {tuple(each) for each in np.argwhere(attended[row])} == set(roots)
        for layer, head in np.ndindex(3, 2):
            assert abs(effect[row, layer, head] - effects.get(f"{layer}.{head}", 0.0)) <= 1e-9
        p = np.exp(acts["logits"][prompt.last] - acts["logits"][prompt.last].max())
        p /= p.sum()
        tokens = oracle.wanted_tokens(p, prompt, targets)
        assert target[row] == max(tokens, key=lambda token: p[token])
        assert abs(probability[row] - p[sorted(set(tokens))].sum()) <= 1e-9
        some += len(roots)
    assert some >= 3
    assert not attended[len(PROMPTS) :].any()


@pytest.mark.whole
def test_a_direction_split_by_what_was_attended(model: gpt2jax.Model, watched: Any) -> None:
    """Catches a part of another token, and the cut taken over whole heads."""
    prepared, batch, observed = watched
    with precision(SETTINGS):
        asked = (batch.answer, batch.distractor, np.asarray(0.7))
        found = split_root_heads(prepared.model.params, observed, batch.last, prepared.score_scale, *asked)
        attended, effect, chosen = (np.asarray(each) for each in (found.attended, found.effect, found.chosen))
    truth = oracle.prepare(*oracle_model(model), "raw")
    for row, prompt in enumerate(batch.prompts):
        acts = oracle.forward(truth.params, truth.config, prompt.tokens)
        roots = oracle.logit_roots(truth, acts, prompt, 0.7)
        assert {tuple(each) for each in np.argwhere(attended[row])} == set(roots)
        assert np.array_equal(chosen[row], attended[row].any(-1))
        assert np.all((effect[row] > 0) == chosen[row])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("answer", Targets("answer")),
        ("top-p 0.9", Targets("top-p", share=0.9)),
        ("top-k 3", Targets("top-k", count=3)),
        ("4, 4,2", Targets("ids", ids=(4, 2))),
    ],
)
def test_targets_are_read(text: str, found: Targets) -> None:
    assert parse_targets(text, None, CONFIG) == found


@pytest.mark.parametrize("text", ["17", "Mary", "top-p 0", "top-p x", "top-k 0", "top-k 18", "3,,4"])
def test_targets_that_are_none(text: str) -> None:
    with pytest.raises(RootError, match="give"):
        parse_targets(text, None, CONFIG)
    with pytest.raises(RootError, match="give"):
        svdtrace.trace(
            replace(gpt2jax.random_model(CONFIG, jax.random.key(1)), tokenizer=None),
            PROMPTS,
            svdtrace.TraceConfig(roots="probability", targets=text),
        )
