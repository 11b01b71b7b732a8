"""Pairs, slices and cuts that rounding may decide otherwise: which are counted, and how they are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import jax_model, random_tokens, small_model

import gpt2jax
import svdtrace.tracing.near_ties
from gpt2jax.blocks import attn_scale
from svdtrace.config import TraceConfig
from svdtrace.method.bounds import ACTIVATION_ERROR, pattern_bounds
from svdtrace.method.firings import candidates_per_destination, near_threshold
from svdtrace.prompts import Prompt
from svdtrace.tracing.batching import batches
from svdtrace.tracing.near_ties import NAMED, UndecidedPairs, near_ties, renumbered, undecided_pairs
from svdtrace.tracing.pairs import pairs_of
from svdtrace.tracing.pipeline import watch
from svdtrace.tracing.prepare import Prepared, prepare
from svdtrace.tracing.trace import trace_prepared

CONFIG = TraceConfig(threshold=0.3)
N_TOKENS = 8
FIRING = ("prompt", "layer", "head", "dest", "src")


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(jax_model(*small_model(n_layers=3)), CONFIG)


@pytest.fixture(scope="module")
def prompts(prepared: Prepared) -> list[Prompt]:
    rows = random_tokens(4, N_TOKENS, {"d_vocab": prepared.model.config.d_vocab}, seed=2)
    return [Prompt(None, tuple(row), tuple(map(str, row)), {}) for row in rows.tolist()]


@pytest.fixture(scope="module")
def seen(prepared: Prepared, prompts: list[Prompt]) -> dict[str, np.ndarray]:
    """Patterns, scores, queries and keys of the whole model, as any forward pass shows them."""
    tokens = np.asarray([prompt.tokens for prompt in prompts])
    names = {name: f"blocks.*.attn.hook_{name}" for name in ("pattern", "attn_scores", "q", "k")}
    out = gpt2jax.forward(prepared.model, tokens, taps=list(names.values()))
    return {name: np.asarray(out.taps[tap], float) for name, tap in names.items()}


def bounds(prepared: Prepared, seen: dict[str, np.ndarray], place: tuple[int, ...]) -> tuple[float, float]:
    """How far rounding may carry the pattern and the score of a pair."""
    prompt, layer, head, dest, src = place
    root = float(np.sqrt(prepared.decomposition.S[layer, head, 0]))
    query = np.linalg.norm(seen["q"][layer, prompt, dest, head]) + root
    keys = np.linalg.norm(seen["k"][layer, prompt, : dest + 1, head], axis=-1) + root
    of_row = ACTIVATION_ERROR * float(attn_scale(prepared.model.config, layer, np.dtype("f4"))) * query * keys
    pattern = seen["pattern"][layer, prompt, head, dest, src]
    eps = float(np.finfo("f4").eps)
    return pattern * (2 * (1 - pattern) * of_row.max() + (dest + 1) * eps), of_row[src]


def expected(prepared: Prepared, seen: dict[str, np.ndarray], config: TraceConfig) -> dict[tuple[int, ...], bool]:
    """Pairs near the threshold or the least score, by a loop; whether the pattern is the reason."""
    found = {}
    for layer, prompt, head, dest, src in np.ndindex(seen["pattern"].shape):
        if layer < 1 or not 1 <= src <= dest:
            continue
        of_pattern, of_score = bounds(prepared, seen, (prompt, layer, head, dest, src))
        above = seen["pattern"][layer, prompt, head, dest, src] - config.threshold
        over = seen["attn_scores"][layer, prompt, head, dest, src] - config.score_min
        if above >= -of_pattern and over >= -of_score and (above <= of_pattern or over <= of_score):
            found[prompt, layer, head, dest, src] = bool(abs(above) <= of_pattern)
    return found


def listed(prepared: Prepared, prompts: list[Prompt], config: TraceConfig) -> dict[tuple[int, ...], bool]:
    (batch,) = batches(prompts, (N_TOKENS,), "auto", prepared.model.config.n_heads, "cpu")
    observed = watch(prepared, batch, config)
    pairs = undecided_pairs(prepared, pairs_of(prepared, observed, config), observed.sizes, batch.place, config)
    columns = (getattr(pairs, name).tolist() for name in FIRING)
    return dict(zip(zip(*columns, strict=True), pairs.by_pattern.tolist(), strict=True))


def firing_pairs(seen: dict[str, np.ndarray]) -> list[tuple[int, ...]]:
    """Pairs that fire by far, whose pattern is not near 1."""
    fires = (seen["attn_scores"] > 0.1) & (seen["pattern"] > CONFIG.threshold) & (seen["pattern"] < 0.9)
    fires[0], fires[..., 0] = False, False
    return [(at[1], at[0], *at[2:]) for at in np.argwhere(fires).tolist()]


@pytest.mark.parametrize("count", [pytest.param(2, marks=pytest.mark.whole), pytest.param(5, marks=pytest.mark.full)])
def test_pairs_on_both_sides_of_the_threshold(
    prepared: Prepared, prompts: list[Prompt], seen: dict[str, np.ndarray], count: int
):
    """Catches pairs below the threshold that are left out, bounds of other heads or of the pair's own key, layer 0."""
    places = firing_pairs(seen)[:count]
    assert len(places) == count
    for place in places:
        prompt, layer, head, dest, src = place
        value, (bound, _) = seen["pattern"][layer, prompt, head, dest, src], bounds(prepared, seen, place)
        for share in (-0.9, 0.9, 1.1):
            config = replace(CONFIG, threshold=float(value + share * bound))
            mine = listed(prepared, prompts, config)
            assert mine == expected(prepared, seen, config)
            assert mine.get(place, False) == (share < 1)


@pytest.mark.whole
def test_scores_near_the_least_one(prepared: Prepared, prompts: list[Prompt], seen: dict[str, np.ndarray]):
    """Catches scores that are held against the least one without their bound."""
    fires = (seen["pattern"] >= CONFIG.threshold) & (seen["attn_scores"] > 0.1)
    fires[0], fires[..., 0] = False, False
    score = np.sort(seen["attn_scores"][fires])[3]
    for least in (float(np.nextafter(np.float32(score), np.inf)), float(score)):
        config = replace(CONFIG, score_min=least)
        mine = listed(prepared, prompts, config)
        assert mine == expected(prepared, seen, config)
        assert not all(mine.values())


def test_the_manifest_counts_and_names_them(prepared: Prepared, prompts: list[Prompt], seen: dict[str, np.ndarray]):
    """Catches a manifest that tells of other pairs than there are."""
    prompt, layer, head, dest, src = firing_pairs(seen)[0]
    value = seen["pattern"][layer, prompt, head, dest, src]
    config = replace(CONFIG, threshold=float(np.nextafter(np.float32(value), 1)))
    found, wanted = trace_prepared(prepared, prompts, config), expected(prepared, seen, config)
    ties = found.manifest["near_ties"]
    assert ties["pairs"] == len(wanted) > 0
    for name in ("firings", "edges"):
        assert ties[name] == sum(getattr(found, name)["near_tie"].to_pylist())
    prompt, layer, head, dest, src = min(wanted)
    assert ties["places"] > NAMED or f"prompt {prompt}: {layer}.{head}@{dest}:{src} (pattern)" in ties["named"]
    assert len(ties["named"]) == min(ties["places"], NAMED)


@pytest.mark.parametrize("threshold", [1.0, 0.5, 0.3, 0.25, 0.05])
def test_no_pair_near_the_threshold_is_crowded_out(threshold: float):
    """Catches no more candidates than can fire where one more is near: patterns as large would sum to more than 1."""
    least = threshold - near_threshold(threshold)
    assert least > 0
    assert (candidates_per_destination(least, 40) + 1) * least > 1


@settings(deadline=None)
@given(seed=st.integers(0, 2**16), error=st.sampled_from([1e-5, 1e-3, 0.1]), size=st.sampled_from([1, 5]))
def test_no_pattern_moves_further_than_its_bound(seed: int, error: float, size: int):
    """To first order; a pattern's log-odds move by 2e at most, so all orders are within e^{2e} of it."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 2, size)
    pattern, moved = (np.exp(each) / np.exp(each).sum() for each in (score, score + error * rng.choice([-1, 1], size)))
    bound = pattern_bounds(pattern, np.full(size, error), size)
    assert np.all(np.abs(moved - pattern) <= bound * np.exp(2 * error))


def table(rows: list[tuple[Any, ...]], side: bool) -> pa.Table:
    names = (*FIRING, *(["side"] if side else []), "near_tie")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    types = [pa.int32()] * 5 + [pa.string()] * side + [pa.bool_()]
    return pa.table([pa.array(list(each), sort) for each, sort in zip(columns, types, strict=True)], names=list(names))


def pairs(rows: list[tuple[Any, ...]]) -> UndecidedPairs:
    return UndecidedPairs(*(np.asarray([row[at] for row in rows], bool if at == 5 else int) for at in range(6)))


def test_names_stand_in_prompt_order():
    """Catches the order in which they were found, a cut named once an edge, and names of what is decided."""
    firings = table([(0, 2, 1, 7, 4, True), (3, 1, 0, 5, 5, False)], side=False)
    edges = table(
        [
            (0, 2, 1, 7, 4, "dest", False),
            (0, 2, 1, 7, 4, "src", True),
            (0, 2, 1, 7, 4, "src", True),
            (3, 1, 0, 5, 5, "dest", True),
        ],
        side=True,
    )
    found = near_ties(firings, edges, [pairs([(3, 1, 0, 5, 4, False)]), pairs([]), pairs([(0, 2, 1, 7, 4, True)])])
    assert found == {
        "pairs": 2,
        "firings": 1,
        "edges": 3,
        "places": 5,
        "named": [
            "prompt 0: 2.1@7:4 (pattern)",
            "prompt 0: 2.1@7:4 (slice)",
            "prompt 0: 2.1@7:4/src (edges)",
            "prompt 3: 1.0@5:4 (score)",
            "prompt 3: 1.0@5:5/dest (edges)",
        ],
    }
    assert renumbered(found["named"], [5, 6, 7, 12])[2:4] == [
        "prompt 5: 2.1@7:4/src (edges)",
        "prompt 12: 1.0@5:4 (score)",
    ]


def test_a_long_list_is_cut_and_counted_whole():
    rows = [(prompt, 1, 0, 2, 1, True) for prompt in reversed(range(30))]
    found = near_ties(table([], side=False), table([], side=True), [pairs(rows)])
    assert (found["pairs"], found["places"], len(found["named"])) == (30, 30, NAMED)
    assert found["named"][-1] == f"prompt {NAMED - 1}: 1.0@2:1 (pattern)"
    assert near_ties(table([], side=False), table([], side=True), [pairs([])])["named"] == []


def test_many_pairs_are_looked_at_a_part_at_a_time(
    prepared: Prepared, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
):
    """Catches pairs between two parts, and parts that are told twice."""
    low = replace(CONFIG, threshold=0.05)
    (batch,) = batches(prompts, (N_TOKENS,), "auto", prepared.model.config.n_heads, "cpu")
    pairs = pairs_of(prepared, watch(prepared, batch, low), low)
    # A score that is there lies within its bound of itself; it stands in the last part.
    config = replace(low, score_min=float(pairs.score[pairs.layer > 0][-1]))
    whole = listed(prepared, prompts, config)
    assert len(pairs) > 20
    assert whole
    monkeypatch.setattr(svdtrace.tracing.near_ties, "PAIRS_AT_ONCE", 7)
    assert listed(prepared, prompts, config) == whole
