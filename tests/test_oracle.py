"""The oracle agrees with itself: what METHOD.md says must hold between its definitions, and small cases by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest

EPS = float(np.finfo(np.float64).eps)
SEEDS = (0, 1, 2)
PROCESSINGS = ("raw", "folded")


def assert_close(actual: Any, expected: Any, size: int, norm: float) -> None:
    """Equal within the rounding of `size` additions of numbers of size `norm` (a factor 8 for the roundings before)."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=8 * EPS * size * norm)


def prompts_of(seed: int, n_prompts: int = 2, n_tokens: int = 9) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    roles = {"IO": 2, "S1": 4, "other name": 4, "end": n_tokens - 2}
    return [
        {"tokens": rng.integers(0, 23, n_tokens).tolist(), "roles": roles, "answer": 3, "distractor": 4}
        for _ in range(n_prompts)
    ]


def model_of(seed: int, processing: str, **changes: Any) -> tuple[oracle.Model, dict[str, np.ndarray]]:
    """A random model as traced, and the activations of one prompt."""
    params, config = oracle.random_model(seed, sharpness=2.0, **changes)
    model = oracle.prepare(params, config, processing)
    return model, oracle.forward(model.params, config, prompts_of(seed)[0]["tokens"])


def largest_score(acts: dict[str, np.ndarray]) -> float:
    """What a relative rounding of q or k is multiplied by on its way into a pattern."""
    return np.abs(acts["scores"][np.isfinite(acts["scores"])]).max()


def reach_of(model: oracle.Model, acts: dict[str, np.ndarray], firing: tuple[int, int, int, int]) -> float:
    """σ_0 |x̃_i| |x̃_j| × d_head: no sum of products, and none of its roundings over eps, is larger."""
    layer, head, dest, src = firing
    x = np.linalg.norm(acts["ln1_x"][layer], axis=-1) + 1
    return model.svd.S[layer, head].sum() * x[dest] * x[src]


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("processing", PROCESSINGS)
def test_writers_sum_to_what_every_layer_reads(seed: int, processing: str) -> None:
    model, acts = model_of(seed, processing)
    resid = [*acts["resid_pre"], acts["resid_post"][-1]]
    for layer in range(model.config["n_layers"] + 1):
        writers = oracle.writers(model.config, layer)
        assert [writer.kind for writer in writers[-3:]] == ["embed", "pos", "const"]
        for token in range(len(acts["embed"])):
            total = sum(oracle.written(model.params, acts, writer, token) for writer in writers[:-1])
            assert_close(total, resid[layer][token], len(writers), np.abs(resid[layer]).max())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
def test_raw_and_folded_agree(seed: int, activation: str) -> None:
    raw, of_raw = model_of(seed, "raw", activation=activation)
    folded, of_folded = model_of(seed, "folded", activation=activation)
    size = raw.config["d_model"] * raw.config["n_layers"]
    expected = log_probabilities(of_raw["logits"])
    reach = largest_score(of_raw)
    assert_close(log_probabilities(of_folded["logits"]), expected, size, reach * np.abs(expected).max())
    assert_close(of_folded["pattern"], of_raw["pattern"], size, reach)
    assert_close(of_folded["resid_pre"].mean(axis=-1), 0, size, np.abs(of_raw["resid_pre"]).max())
    assert_close(folded.params["W_U"].mean(axis=1), 0, 23, np.abs(folded.params["W_U"]).max())
    again = oracle.fold(folded.params)
    for name, value in folded.params.items():
        assert_close(again[name], value, size, 1 + np.abs(value).max())


def test_later_tokens_change_nothing_and_rows_of_the_pattern_sum_to_one() -> None:
    params, config = oracle.random_model(0)
    tokens = prompts_of(0)[0]["tokens"]
    whole, part = oracle.forward(params, config, tokens), oracle.forward(params, config, tokens[:5])
    assert_close(whole["logits"][:5], part["logits"], config["d_model"], np.abs(part["logits"]).max())
    assert_close(whole["pattern"].sum(axis=-1), 1, len(tokens), 1)
    later = np.triu(np.ones((9, 9), dtype=bool), 1)
    assert np.all(whole["pattern"][:, :, later] == 0)
    assert np.all(whole["scores"][:, :, later] == -np.inf)


def test_what_a_head_reads_has_the_configs_epsilon() -> None:
    params, config = oracle.random_model(0, eps=0.1)
    acts = oracle.forward(params, config, [1, 2, 3])
    resid = params["W_E"][[1, 2, 3]] + params["W_pos"][:3]
    expected = (resid - resid.mean(axis=1, keepdims=True)) / np.sqrt(resid.var(axis=1, keepdims=True) + 0.1)
    assert_close(acts["ln1_x"][0], params["ln1_w"][0] * expected + params["ln1_b"][0], 12, np.abs(expected).max())


def test_attention_scale_follows_both_switches() -> None:
    config = {"d_model": 12, "n_heads": 3}
    assert oracle.attn_scale(config, 2) == 0.5
    assert oracle.attn_scale(config | {"scale_attn_by_inverse_layer_idx": True}, 2) == 0.5 / 3
    assert oracle.attn_scale(config | {"scale_attn_weights": False}, 2) == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("processing", PROCESSINGS)
def test_decomposition_rebuilds_omega(seed: int, processing: str) -> None:
    model, _ = model_of(seed, processing)
    p, (U, S, V, rank) = model.params, model.svd
    for here in np.ndindex(*rank.shape):
        omega = np.vstack([p["W_Q"][here], p["b_Q"][here]]) @ np.vstack([p["W_K"][here], p["b_K"][here]]).T
        size = len(omega)
        assert_close(U[here] * S[here] @ V[here].T, omega, size, S[here][0])
        for vectors in (U[here], V[here]):
            assert_close(vectors.T @ vectors, np.eye(len(S[here])), size, 1)
        assert np.all(np.diff(S[here]) <= 0)
        assert np.all(U[here][np.abs(U[here]).argmax(axis=0), np.arange(len(S[here]))] > 0)
        assert rank[here] == len(S[here])


def test_products_beyond_the_rank_are_zero_and_in_no_slice() -> None:
    params, config = oracle.random_model(0, sharpness=2.0)
    params["W_Q"][2, 1, :, 2:], params["b_Q"][2, 1, 2:] = 0, 0
    params["W_Q"][3, 0], params["b_Q"][3, 0] = 0, 0
    model = oracle.prepare(params, config, "folded")
    acts = oracle.forward(model.params, config, [1, 2, 3, 4, 5])
    assert model.svd.rank[2, 1] == 2
    assert model.svd.rank[3, 0] == 0
    assert np.all(oracle.products(acts, model.svd, (2, 1, 4, 3))[2:] == 0)
    assert sorted(oracle.slice_of(model, acts, (2, 1, 4, 3), oracle.DEFAULTS | {"method": "all"}).members) == [0, 1]
    assert oracle.slice_of(model, acts, (3, 0, 4, 3), oracle.DEFAULTS) == oracle.Slice([], [], 0.0, False)
    found = oracle.trace(params, config, [{"tokens": [1, 1, 1, 1]}], {"threshold": 0.2})
    empty = [row for row in found.firings if (row["layer"], row["head"]) == (3, 0)]
    assert empty
    assert not any((edge["layer"], edge["head"]) == (3, 0) for edge in found.edges)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("processing", PROCESSINGS)
def test_products_sum_to_the_score_and_are_the_singular_gauges_own(seed: int, processing: str) -> None:
    model, acts = model_of(seed, processing)
    gauge = oracle.singular_gauge(model.params, model.config, model.svd)
    gauged = oracle.forward(gauge, model.config, prompts_of(seed)[0]["tokens"])
    size = model.config["d_model"] * model.config["n_layers"]
    assert_close(gauged["logits"], acts["logits"], size, largest_score(acts) * np.abs(acts["logits"]).max())
    for layer, head, dest, src in np.ndindex(*acts["pattern"].shape):
        if src > dest:
            continue
        here, firing = (layer, head), (layer, head, dest, src)
        p, norm = oracle.products(acts, model.svd, firing), reach_of(model, acts, firing)
        x, size = acts["ln1_x"][layer], len(p) + model.config["d_model"]
        assert_close(p.sum(), acts["q"][layer, dest, head] @ acts["k"][layer, src, head], size, norm)
        assert_close(p.sum() * oracle.attn_scale(model.config, layer), acts["scores"][firing], size, norm)
        q, k = x[dest] @ gauge["W_Q"][here] + gauge["b_Q"][here], x[src] @ gauge["W_K"][here] + gauge["b_K"][here]
        assert_close(q * k, p, size, norm)


@pytest.mark.parametrize(
    ("p", "tau", "members"),
    [
        ([3.0, -1.0, 2.0, 1.0], 1.0, [0, 2, 3]),  # 3, 5, 6 against 5: the second is not more than it
        ([3.0, -1.0, 2.0, 1.0], 0.9, [0, 2]),
        ([1.0, 4.0, 0.0, 2.0], 1.0, [1, 3, 0]),  # nothing exceeds the whole
        ([2.0, 2.0, -2.5, 2.0], 1.0, [0, 1]),  # lower k first; 4 against 3.5
        ([-3.0, 1.0, -2.0, -1.0], 1.0, [0, 2, 3]),
        ([-3.0, 0.0, -1.0, -1.0], 0.5, [0]),
        ([1.0, -1.0], 1.0, []),
    ],
)
def test_slices_by_hand(p: list[float], tau: float, members: list[int]) -> None:
    chosen = oracle.choose_slice(np.array(p), np.zeros(len(p)), tau)
    assert chosen.members == members
    assert chosen.products == [p[k] for k in members]
    assert chosen.total == sum(p)


@pytest.mark.parametrize("seed", range(20))
def test_a_slice_is_the_smallest_prefix_that_exceeds(seed: int) -> None:
    p = np.random.default_rng(seed).normal(size=8)
    for sign in (1.0, -1.0):
        signed = p * sign * np.sign(p.sum())
        chosen = oracle.choose_slice(signed, np.zeros(8), 1.0)
        best = np.sort(np.abs(signed[signed * sign > 0]))[::-1].cumsum()
        assert sign * chosen.total > 0
        assert len(chosen.members) == int(np.searchsorted(best, abs(chosen.total), side="right")) + 1
        assert all(sign * value > 0 for value in chosen.products)


@pytest.mark.parametrize(
    ("p", "bounds", "near"),
    [
        ([4.0, 3.0, -2.0], [0.1, 0.1, 0.1], False),  # 4, 7 against 5
        ([4.0, 1.1, -0.2], [0.1, 0.1, 0.1], False),  # 4, 5.1 against 4.9: 0.2 off, √2 × 0.1 allowed
        ([4.0, 1.1, -0.2], [0.2, 0.1, 0.1], True),
        ([4.0, 3.0, -2.9], [0.15, 0.1, 0.1], True),  # 4 is within 0.15 of 4.1: the running sum before the cut
        ([4.0, 3.0, -2.0], [0.1, 3.0, 0.1], True),  # a member within its bound of zero
        ([4.0, 3.0, 2.95, -2.0, -1.5], [0.02, 0.02, 0.02, 0.02, 0.02], False),  # 4, 7 against 6.45; 0.05 apart
        ([4.0, 3.0, 2.95, -2.0, -1.5], [0.02, 0.02, 0.03, 0.02, 0.02], True),
        ([4.0, 3.0, 1.0], [0.1, 0.1, 0.1], True),  # all positive: the last running sum is the total itself
    ],
)
def test_near_ties_by_hand(p: list[float], bounds: list[float], near: bool) -> None:
    assert oracle.choose_slice(np.array(p), np.array(bounds), 1.0).near_tie is near


def test_turns_are_capped_and_zero_for_one_dimension() -> None:
    assert oracle.turns(np.array([3.0])).tolist() == [0.0]
    terms = oracle.turns(np.array([2.0, 1.0, 1.0]))
    eps = float(np.finfo(np.float32).eps)
    assert terms.tolist() == [8 * eps, 1.0, 1.0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("processing", PROCESSINGS)
@pytest.mark.parametrize("side", ["dest", "src"])
def test_exact_contributions_leave_nothing_unexplained(seed: int, processing: str, side: str) -> None:
    model, acts = model_of(seed, processing)
    for firing in oracle.firings(acts, oracle.DEFAULTS, last=8):
        members = oracle.slice_of(model, acts, firing, oracle.DEFAULTS).members
        found = oracle.contributions(*model[:2], acts, model.svd, firing, members, "exact", side)
        p = oracle.products(acts, model.svd, firing)
        size = len(found) + model.config["d_model"]
        norm = sum(c.magnitude for c in found) + reach_of(model, acts, firing)
        assert_close(sum(c.value for c in found), p[members].sum(), size, norm)
        assert [c.writer for c in found] == oracle.writers(model.config, firing[0])


@pytest.mark.parametrize("processing", PROCESSINGS)
@pytest.mark.parametrize("method", ["paper", "all"])
def test_paper_contributions_are_the_singular_gauges_reading_of_what_heads_wrote(processing: str, method: str) -> None:
    model, acts = model_of(0, processing)
    gauge = oracle.singular_gauge(model.params, model.config, model.svd)
    for firing in oracle.firings(acts, oracle.DEFAULTS, last=8):
        layer, head, dest, src = firing
        members = oracle.slice_of(model, acts, firing, oracle.DEFAULTS | {"method": method}).members
        signs = np.sign(acts["ln1_x"][layer, dest] @ gauge["W_Q"][layer, head] + gauge["b_Q"][layer, head])
        for side, token, name in (("dest", dest, "Q"), ("src", src, "K")):
            found = oracle.contributions(*model[:2], acts, model.svd, firing, members, method, side)
            assert [c.writer.kind for c in found] == ["head"] * layer * model.config["n_heads"]
            scale = acts["ln1_scale"][layer, token]
            for c in found:
                y = acts["head_out"][c.writer.layer, token, c.writer.head]
                if processing == "raw":
                    y = model.params["ln1_w"][layer] * (y - y.mean())
                read = (y @ gauge[f"W_{name}"][layer, head] + gauge[f"b_{name}"][layer, head]) / scale
                norm = np.sqrt(model.svd.S[layer, head]).sum() * (np.linalg.norm(y) + 1) / scale
                assert_close(c.value, (signs * read)[members].sum(), model.config["d_model"], norm)


@pytest.mark.parametrize("side", ["dest", "src"])
def test_taking_a_signal_away_lowers_the_slices_sum_by_its_contribution(side: str) -> None:
    model, acts = model_of(1, "folded")
    for firing in oracle.firings(acts, oracle.DEFAULTS, last=8):
        layer, _, dest, src = firing
        token = dest if side == "dest" else src
        members = oracle.slice_of(model, acts, firing, oracle.DEFAULTS).members
        P = oracle.signal_projector(model.svd, firing, members, side)
        assert_close(P @ P, P, len(P), 1)
        U, S, V = (part[firing[:2]] for part in model.svd[:3])
        x = {"dest": acts["ln1_x"][layer, dest], "src": acts["ln1_x"][layer, src]}
        for c in oracle.contributions(*model[:2], acts, model.svd, firing, members, "exact", side)[:-1]:
            signal = oracle.written(model.params, acts, c.writer, token) @ P
            edited = x | {side: x[side] - signal / acts["ln1_scale"][layer, token]}
            q, k = (np.append(edited[name], 1) @ part for name, part in (("dest", U), ("src", V)))
            before = oracle.products(acts, model.svd, firing)[members].sum()
            after = (S * q * k)[members].sum()
            norm = np.linalg.norm(signal) / acts["ln1_scale"][layer, token] + 1
            assert_close(before - after, c.value, len(P), norm * reach_of(model, acts, firing))


@pytest.mark.parametrize(
    ("values", "coverage", "chosen", "total"),
    [
        ([1.0, 5.0, -1.0, 3.0], 0.7, [1, 3], 8.0),  # 5, 8 against 5.6
        ([2.0, 5.0, 2.0, 1.0], 0.65, [0, 1, 2], 10.0),  # 5, 7 against 6.5; the equal of the last comes along
        ([-1.0, -3.0, -4.0], 0.7, [0], -8.0),
        ([-10.0], 0.7, [], -10.0),  # nothing exceeds -7, nothing is positive
        ([3.0, -3.0], 0.7, [0], 0.0),
        ([1.0, 2.0, 0.0], 1.0, [0, 1], 3.0),  # nothing exceeds the whole
        ([], 0.7, [], 0.0),
        ([0.0, 0.0], 0.7, [], 0.0),
    ],
)
def test_coverage_by_hand(values: list[float], coverage: float, chosen: list[int], total: float) -> None:
    cut = oracle.coverage_cut(values, coverage)
    assert (cut.chosen, cut.total) == (chosen, total)


def test_near_ties_of_cuts_by_hand() -> None:
    assert not oracle.coverage_cut([5.0, 3.0, 2.0], 0.7, 0.1).near_tie  # 5, 8 against 7
    assert oracle.coverage_cut([5.0, 3.0, 2.0], 0.787, 0.1).near_tie  # 8 against 7.87, √2 × 0.1 allowed
    assert oracle.coverage_cut([5.0, 3.0, 2.0], 0.505, 0.1).near_tie  # 5 against 5.05
    assert oracle.coverage_cut([5.0, 3.0, 2.9], 0.7, 0.1).near_tie  # 3 and 2.9 may change places
    assert not oracle.coverage_cut([5.0, 3.0, 2.0], 0.4, 0.1).near_tie


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("processing", PROCESSINGS)
def test_direct_effects_sum_to_the_logit_difference(seed: int, processing: str) -> None:
    model, acts = model_of(seed, processing)
    prompt = prompts_of(seed)[0]
    token = oracle.last_traced(prompt)
    effects = [value for _, value in oracle.direct_effects(*model[:2], acts, token, 3, 4)]
    size, norm = len(effects) + model.config["d_model"], np.abs(effects).sum() + np.abs(acts["logits"]).max()
    assert_close(sum(effects), oracle.logit_difference(acts, prompt), size, norm)
    top = [value for _, value in oracle.direct_effects(*model[:2], acts, token)]
    logits = acts["logits"][token]
    assert_close(sum(top), logits.max() - logits.mean(), size, norm)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("method", ["exact", "paper", "all"])
@pytest.mark.parametrize("roots", ["all", "logit", "3.*@end:*,2.1@*:IO"])
def test_a_trace_counts_paths_and_keeps_what_is_reached(seed: int, method: str, roots: str) -> None:
    params, config = oracle.random_model(seed, sharpness=2.0)
    prompts = prompts_of(seed)
    found = oracle.trace(params, config, prompts, {"method": method, "roots": roots, "writers": "all"})
    whole = [key for here in found.roots.values() for key in here]
    counts = oracle.paths_by_recursion(found.all_firings, found.all_edges, whole)
    assert counts == oracle.paths_by_layer(found.all_firings, found.all_edges, whole)
    for row in [*found.all_firings, *found.all_edges]:
        assert row["paths"] == counts[oracle.key(row)]
    assert found.firings == [row for row in found.all_firings if row["paths"] > 0]
    assert found.firings == sorted(found.firings, key=oracle.key)
    assert [(oracle.key(e), e["side"]) for e in found.edges] == sorted((oracle.key(e), e["side"]) for e in found.edges)
    assert all(row["dest"] <= 7 and row["src"] >= 1 and row["layer"] >= 1 for row in found.firings)
    assert len(found.firings) == len(found.all_firings) if roots == "all" else found.roots.keys() == {0, 1}


def test_raw_and_folded_traces_meet_the_same_firings_and_totals() -> None:
    params, config = oracle.random_model(0, sharpness=2.0)
    raw, folded = (oracle.trace(params, config, prompts_of(0), {"processing": name}) for name in PROCESSINGS)
    assert [oracle.key(row) for row in raw.firings] == [oracle.key(row) for row in folded.firings]
    assert len(raw.firings) > 20
