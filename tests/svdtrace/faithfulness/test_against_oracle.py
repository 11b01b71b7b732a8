"""Edited runs, attribution patching and head ablation against loops over their definitions, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from oracle import heads, tracing
from oracle.editing import SignalMeans, edited_forward, signal_means
from small_model import jax_model, small_model

import svdtrace
from svdtrace.config import TraceConfig
from svdtrace.faithfulness.clean import DirectEffects, clean_run
from svdtrace.faithfulness.given import Candidates, Given, candidates, given
from svdtrace.faithfulness.measuring import Bench, attribution_scores, measurements
from svdtrace.faithfulness.output_heads import head_ablations
from svdtrace.prompts import Prompt
from svdtrace.tracing.devices import precision
from svdtrace.tracing.rows import SIDES, WriterOrder
from svdtrace.tracing.trace import prepare_cached

# Float64 rounds by 1e-16; a pass adds a few thousand numbers of size up to ten, and the decomposition, by another
# algorithm here and there, divides by differences of singular values down to a hundredth of the largest.
ERROR = 1e-9
ROLES = ({"A": 2, "end": 5}, {"A": 3, "B": 3, "end": 7}, {"B": 1}, {"A": 1, "B": 4, "end": 4})


def some_prompts(d_vocab: int) -> list[Prompt]:
    """Prompts of two lengths; the third, whose answer is missing, is measured nowhere."""
    rng = np.random.default_rng(5)
    prompts = []
    for place, roles in enumerate(ROLES):
        tokens = tuple(rng.integers(0, d_vocab, (7, 9)[place % 2]).tolist())
        answer, distractor = rng.permutation(d_vocab)[:2].tolist()
        answer = None if place == 2 else answer
        prompts.append(Prompt(None, tokens, tuple(map(str, tokens)), roles, answer, distractor))
    return prompts


@dataclass(frozen=True)
class Case:
    """The package's numbers and the oracle's, of one model and trace."""

    bench: Bench
    direct: DirectEffects
    source: Given
    listed: Candidates
    truth: tracing.Model
    means: SignalMeans

    def measures(self, **edit: Any) -> np.ndarray:
        """The oracle's logit differences and log-probabilities, [2 prompt]; `keep` gets the prompt's place first."""
        found = []
        for place, prompt in enumerate(self.source.prompts):
            here = dict(edit)
            if "keep" in edit:
                here["keep"] = lambda *at, place=place: edit["keep"](place, *at)
            logits = edited_forward(self.truth.params, self.truth.config, prompt.tokens, self.means, **here)
            last = logits[prompt.last]
            total = last.max() + np.log(np.exp(last - last.max()).sum())
            found.append([last[prompt.answer] - last[prompt.distractor], last[prompt.answer] - total])
        return np.array(found).T

    def keep(self, members: np.ndarray, base: float, amount: float = 1.0) -> Any:
        """`keep` of a set of candidates, from the trace's rows: kept alone (base 0), or less by an amount (base 1)."""
        rows = self.source.firings.to_pylist()
        numbers = self.source.roles.prompts.tolist()
        labels = [{at: role for role, at in prompt.roles.items()} for prompt in self.source.prompts]
        role_names = self.source.roles.names
        used = {
            (numbers.index(row["prompt"]), row["layer"], side, row[SIDES[side]], row["head"], k)
            for row in rows
            for side in (0, 1)
            for k in row["slice"]
        }
        columns = (self.listed.layer, self.listed.head, self.listed.side, self.listed.role, self.listed.writer)
        edges = {
            (int(layer), int(head), int(side), role_names[role], int(writer))
            for layer, head, side, role, writer, chosen in zip(*columns, members, strict=True)
            if chosen
        }
        order = WriterOrder.of(self.truth.config["n_layers"], self.truth.config["n_heads"])

        def keep(prompt: int, layer: int, side: int, token: int, head: int, k: int, w: int) -> float:
            role = labels[prompt].get(token, "other")
            writer = int(order.codes_below(layer)[w])
            is_there = (prompt, layer, side, token, head, k) in used and (layer, head, side, role, writer) in edges
            return base + (1 - 2 * base) * amount * is_there

        return keep


@pytest.fixture(scope="module", params=["folded", pytest.param("raw", marks=pytest.mark.full)])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    params, shape = small_model(4, n_layers=3, sharpness=2.0)
    settings = {"threshold": 0.35, "writers": "all", "processing": request.param, "dtype": "float64"}
    config = TraceConfig(**settings)
    model = jax_model(params, shape)
    with precision(config):
        # In float64 positions are 64-bit and tokens are not; float32's strict promotion is held by the command's tests.
        trace = svdtrace.trace(model, some_prompts(shape["d_vocab"]), config)
        source = given(trace.prompts, trace.firings, trace.edges)
        prepared = prepare_cached(model, config)
        listed = candidates(source, config, WriterOrder.of(3, shape["n_heads"]))
        bench, direct = clean_run(prepared, config, source)
        truth = tracing.prepare(params, shape, request.param)
        truth = truth._replace(params=heads.singular_gauge(truth.params, shape, truth.svd))
        means = signal_means(truth.params, shape, source.prompts)
        yield Case(bench, direct, source, listed, truth, means)


def chosen_sets(case: Case, seed: int = 0) -> np.ndarray:
    """Some of the candidates, and all of them."""
    listed = case.listed
    half = np.random.default_rng(seed).random(len(listed)) < 0.5
    return np.stack([half, np.ones(len(listed), bool)])


def test_there_is_something_to_test(case: Case):
    assert case.source.left_out == 1
    assert 10 < case.listed.traced.sum() < len(case.listed)
    assert len(set(case.listed.layer)) == 2
    assert len(set(case.listed.role)) >= 3


@pytest.mark.parametrize("kept", [True, False])
def test_edited_runs(case: Case, kept: bool):
    """Catches a set's signals at a wrong token, side, head or k, a wrong mean, and a scale of the clean run."""
    sets = chosen_sets(case)
    found = measurements(case.bench, case.listed.places(), sets, np.full(len(sets), kept))
    expected = [case.measures(keep=case.keep(members, 0.0 if kept else 1.0)) for members in sets]
    np.testing.assert_allclose(found, expected, rtol=ERROR, atol=ERROR)
    assert np.ptp(found, axis=0).min() > 1e-3


def test_attribution_patching(case: Case):
    """Minus the slope, by central differences of the oracle; halving the step bounds their error."""
    scores = attribution_scores(case.bench, case.listed.places())
    edge = int(np.argmax(np.abs(scores).min(axis=0)))
    alone = np.arange(len(case.listed)) == edge

    def drop(step: float) -> np.ndarray:
        ahead, back = (case.measures(keep=case.keep(alone, 1.0, amount)) for amount in (step, -step))
        return -(ahead - back).mean(axis=1) / (2 * step)

    coarse, fine = drop(2e-3), drop(1e-3)
    bound = np.abs(coarse - fine) + ERROR
    assert (np.abs(scores[:, edge] - fine) <= bound).all()
    assert (np.abs(scores[:, edge]) > 10 * bound).all()


def test_heads_ablated(case: Case):
    """Catches another head's mean, and an ablation that reaches its layer's other heads."""
    found = head_ablations(case.bench)
    for layer, head in np.ndindex(*found.shape[:2]):
        expected = case.measures(ablated=(layer, head))
        np.testing.assert_allclose(found[layer, head], expected, rtol=ERROR, atol=ERROR)


def test_direct_effects_of_heads(case: Case):
    """Each head's own share, and with every other writer's and the constant the whole logit difference (section 11)."""
    from oracle.model import forward
    from oracle.signals import direct_effects

    order = np.concatenate(case.bench.places)
    for row, place in enumerate(order):
        prompt = case.source.prompts[place]
        acts = forward(case.truth.params, case.truth.config, prompt.tokens)
        effects = direct_effects(
            case.truth.params, case.truth.config, acts, prompt.last, prompt.answer, prompt.distractor
        )
        of_heads = [value for writer, value in effects if writer.kind == "head"]
        np.testing.assert_allclose(case.direct.effect[row].reshape(-1), of_heads, rtol=ERROR, atol=ERROR)
        logits = acts["logits"][prompt.last]
        whole = logits[prompt.answer] - logits[prompt.distractor]
        rest = sum(value for writer, value in effects if writer.kind != "head")
        assert case.direct.effect[row].sum() + rest == pytest.approx(whole, abs=ERROR)


def test_all_signals_kept_are_the_clean_run(case: Case):
    """The law: with every writer at every k of every token, all terms less their means are the whole deviation."""
    bench = case.bench
    everywhere = replace(
        bench, readings=tuple(replace(each, marks=jnp.ones_like(each.marks)) for each in bench.readings)
    )
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in bench.shape), indexing="ij"), -1).reshape(-1, 5)
    sets = np.stack([np.ones(len(grid), bool), np.zeros(len(grid), bool)])
    kept, clean = measurements(everywhere, grid, sets, np.array([True, False]))
    np.testing.assert_allclose(kept, clean, rtol=ERROR, atol=ERROR)
    np.testing.assert_allclose(clean, case.measures(), rtol=ERROR, atol=ERROR)
    nothing, removed = measurements(everywhere, grid, sets[::-1], np.array([True, False]))
    np.testing.assert_allclose(removed, nothing, rtol=ERROR, atol=ERROR)
    assert np.abs(clean - nothing).max() > 1e-2


def test_pieces_change_nothing(case: Case, monkeypatch: pytest.MonkeyPatch):
    """Catches a last piece that writes over another set's numbers."""
    sets, kept = chosen_sets(case)[[0, 1, 0]], np.array([True, False, False])
    whole = measurements(case.bench, case.listed.places(), sets, kept)
    monkeypatch.setattr("svdtrace.faithfulness.measuring.MOST_SETS", 2)
    np.testing.assert_allclose(
        measurements(case.bench, case.listed.places(), sets, kept), whole, rtol=ERROR, atol=ERROR
    )
