"""The statistic under every null, p- and q-values, against loops in float64 over the same draws."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import oracle
import pytest
from oracle import nulls as truth
from picture_faults import faults
from small_model import jax_model, small_model

import svdtrace
from svdtrace.method.bounds import ACTIVATION_ERROR
from svdtrace.nulls.candidates import draw, look, question
from svdtrace.nulls.chance import Chance, chance, largest
from svdtrace.nulls.draws import kind_key, partners, random_rotations, random_slices, rank_groups
from svdtrace.prompts import Prompt
from svdtrace.tracing.rows import SIDES
from svdtrace.tracing.trace import prepare_cached

NULLS, SEED = 3, 5
PARAMS, CONFIG = small_model(1, n_layers=3, d_vocab=19)
SHALLOW = small_model(1, n_layers=2, d_vocab=19)
LENGTHS = (8, 6, 8, 8, 7, 8)
OVER_KEYS = {"method": "relative", "threshold": 0.4}
SETTINGS = [
    ((PARAMS, CONFIG), {"method": "exact", "writers": "all", "processing": "raw", "threshold": 0.35}),
    pytest.param((SHALLOW, {"method": "paper", "threshold": 0.3, "tau": 0.9}), marks=pytest.mark.full),
    pytest.param((SHALLOW, {"method": "exact", "threshold": 0.3, "blocks": 0.3}), marks=pytest.mark.full),
    pytest.param((SHALLOW, {**OVER_KEYS, "processing": "raw"}), marks=pytest.mark.full),
    pytest.param(((PARAMS, CONFIG), {**OVER_KEYS, "keys": "own", "blocks": 0.3}), marks=pytest.mark.full),
    pytest.param((SHALLOW, {"method": "all", "threshold": 0.3, "sides": "src"}), marks=pytest.mark.full),
]
# Everything runs in float64: sums of a few hundred terms, each after a forward pass of some dozen products in a row.
ROUNDING = 1e4 * np.finfo(np.float64).eps


def prompts() -> list[Prompt]:
    rng = np.random.default_rng(0)
    found = []
    for length in LENGTHS:
        tokens = tuple(int(token) for token in rng.integers(0, CONFIG["d_vocab"], length))
        roles = {"A": 2, "B": int(rng.integers(1, length)), "end": length - 1}
        found.append(Prompt(None, tokens, tuple(map(str, tokens)), roles))
    return found


class Both:
    """Ours and the oracle's, which works every null out once."""

    def __init__(self, ours: Chance, case: truth.Case, config: dict[str, Any]) -> None:
        self.ours, self.case, self.config = ours, case, config
        self.observed = case.statistics()
        self.known: dict[tuple[str, int], dict[truth.Candidate, float]] = {}

    def under(self, kind: str, null: int) -> dict[truth.Candidate, float]:
        if (kind, null) not in self.known:
            self.known[kind, null] = self.case.statistics(**drawn(self, kind, null))
        return self.known[kind, null]


@pytest.fixture(scope="module", params=SETTINGS)
def both(request: pytest.FixtureRequest) -> Both:
    (params, config), chosen = request.param
    blocks = chosen.get("blocks")
    chosen = {name: value for name, value in chosen.items() if name != "blocks"}
    settings = svdtrace.TraceConfig(**chosen, dtype="float64")
    # In float64 counts are int64 here and int32 there, which strict promotion would not have.
    with jax.numpy_dtype_promotion("standard"):
        ours = chance(jax_model(params, config), prompts(), settings, nulls=NULLS, seed=SEED, blocks=blocks)
    case = truth.Case(oracle.prepare(params, config, settings.processing), prompts(), chosen, blocks)
    return Both(ours, case, config)


def named(ours: Chance, values: np.ndarray) -> dict[truth.Candidate, float]:
    """Values by the candidates' names."""
    its = ours.candidates
    left, sizes = its.key, (its.order.n_layers, its.order.n_heads, len(its.roles), len(its.order.labels))
    columns = []
    for size in reversed(sizes):
        columns.append(left % size)
        left = left // size
    writer, role, head, layer = columns
    return {
        (its.order.labels[w], f"{at}.{n}", its.roles[r], SIDES[side]): float(value)
        for w, r, n, at, side, value in zip(writer, role, head, layer, left, values, strict=True)
    }


def drawn(both: Both, kind: str, null: int) -> dict[str, Any]:
    """One draw of one null, as the oracle takes it: from the same functions, called one firing or head at a time."""
    case = both.case
    n_layers, n_heads, n_ctx = (both.config[name] for name in ("n_layers", "n_heads", "n_ctx"))
    h = case.model.svd.S.shape[-1]
    rank = np.arange(h) < case.model.svd.rank[..., None]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        if kind == "prompts":
            return {"partner": partners(SEED, null, np.asarray(LENGTHS)).tolist()}
        if kind == "bases":
            turned = {}
            for layer in range(1, n_layers):
                key = jax.random.fold_in(kind_key(SEED, "bases"), layer)
                group = rank_groups(jax.numpy.asarray(rank[layer]))
                turned[layer] = np.asarray(random_rotations(key, np.array([null], np.int32), group, np.dtype("f8"))[0])
            return {"rotation": lambda firing: turned[firing[0]][firing[1]]}
        key, one = jax.random.fold_in(kind_key(SEED, "slices"), null), jax.jit(random_slices)

        def members(at: int, firing: truth.Firing) -> list[int]:
            layer, head, dest, src = firing
            name = np.array([at, ((layer * n_heads + head) * n_ctx + dest) * n_ctx + src], np.uint32)
            size = jax.numpy.asarray(len(case.members(at, firing)), jax.numpy.int32)
            its = one(key, jax.numpy.asarray(name), size, jax.numpy.asarray(rank[layer, head]))
            return np.flatnonzero(its).tolist()

        drawn = {each: members(*each) for each in case.firings}
    return {"members": lambda at, firing: drawn[at, firing]}


def test_the_statistic_as_observed(both: Both) -> None:
    mine = named(both.ours, both.ours.statistic)
    assert mine.keys() == {key for key, value in both.observed.items() if value > 0}
    assert len(mine) > 20
    assert mine == pytest.approx({key: both.observed[key] for key in mine}, abs=ROUNDING)
    assert both.ours.summary["candidates"] == len(both.observed)
    assert both.ours.summary["prompts_without_partner"] == 2


def test_the_statistic_under_every_null(both: Both) -> None:
    ours = both.ours
    assert set(ours.null) == {"bases", "prompts"} | ({"slices"} if both.case.settings["method"] != "all" else set())
    for kind, statistic in ours.null.items():
        for null in range(NULLS):
            expected = both.under(kind, null)
            mine = named(ours, statistic[null])
            assert mine == pytest.approx({key: expected.get(key, 0.0) for key in mine}, abs=ROUNDING), (kind, null)
            # No null is what was observed.
            assert np.abs(statistic[null] - ours.statistic).max() > 0.01


def test_p_and_q_values(both: Both) -> None:
    """A null that says nothing of a candidate leaves the others to decide."""
    ours = both.ours
    partnered = both.case.statistics(partner=range(len(LENGTHS)))
    largest_p = dict.fromkeys(both.observed, 0.0)
    for kind, p in ours.p.items():
        observed = partnered if kind == "prompts" else both.observed
        mine = named(ours, p)
        for key in both.observed:
            if key not in observed or (kind == "prompts" and key[0].startswith(("pos", "const", "attn_bias"))):
                assert key not in mine or np.isnan(mine[key])
                continue
            nulls = [both.under(kind, null)[key] for null in range(NULLS)]
            expected = truth.p_value(observed[key], nulls, ACTIVATION_ERROR)
            assert mine.get(key, 1.0) == expected
            largest_p[key] = max(largest_p[key], expected)
    expected = dict(zip(both.observed, truth.q_values(list(largest_p.values())), strict=True))
    mine = named(ours, ours.q_value)
    assert mine == pytest.approx({key: expected[key] for key in mine}, rel=1e-12)
    assert named(ours, largest(ours.p)) == {key: largest_p[key] for key in mine}


def test_p_comes_of_what_is_public(both: Both) -> None:
    """Catches an observed statistic over other firings than its nulls: two of the prompts have no partner."""
    ours = both.ours
    for kind, p in ours.p.items():
        there = ~np.isnan(p)
        again = (1 + np.sum(ours.null[kind] >= ours.observed[kind] * (1 - 5e-5), axis=0)) / (1 + NULLS)
        assert there.any()
        assert np.array_equal(p[there], again[there])
    partnered = named(ours, ours.observed["prompts"])
    expected = both.case.statistics(partner=range(len(LENGTHS)))
    assert partnered == pytest.approx({key: expected.get(key, 0.0) for key in partnered}, abs=ROUNDING)
    assert not np.allclose(ours.observed["prompts"], ours.statistic)


def test_sizes_in_random_bases(both: Both) -> None:
    size = both.ours.size
    for null in range(NULLS):
        found = both.case.sizes(drawn(both, "bases", null)["rotation"])
        if both.case.settings["method"] == "all":
            found = [size.shape[-1] - 1] * len(found)
        assert size[null].sum(axis=(0, 1)).tolist() == np.bincount(found, minlength=size.shape[-1]).tolist()


def test_the_picture_holds_what_was_found(both: Both) -> None:
    """Catches lines of another edge, bars of another null, and bars filled where chance is beaten."""
    ours, many = both.ours, 5
    figure = ours.plot(strongest=many).figure
    (axes,) = figure.axes
    largest = sorted(named(ours, ours.statistic).items(), key=lambda each: -each[1])[:many]
    sides = {"dest": "query", "src": "key"}
    lines = [f"{writer} → {reader}, {sides[side]} at {role}" for (writer, reader, role, side), _ in largest]
    assert [label.get_text() for label in axes.get_yticklabels()] == lines
    dots = np.concatenate([each.get_offsets() for each in axes.collections])
    assert [value for value, _ in sorted(dots, key=lambda dot: dot[1])] == [value for _, value in largest]
    places = np.argsort(-ours.statistic, kind="stable")[:many]
    said = {kind: ~np.isnan(ours.p[kind][places]) for kind in ours.null}
    ends = [np.percentile(ours.null[kind][:, places][:, said[kind]], 97.5, axis=0) for kind in ours.null]
    assert [bar.get_x() + bar.get_width() for bar in axes.patches] == pytest.approx(np.concatenate(ends))
    beaten = np.concatenate([ours.p[kind][places][said[kind]] <= 0.05 for kind in ours.null])
    assert [bar.get_facecolor()[3] == 0 for bar in axes.patches] == beaten.tolist()
    assert faults(figure) == {}


def test_it_says_in_a_line_what_it_is(both: Both) -> None:
    assert repr(both.ours) == f"Chance({len(both.ours.candidates):,} edges, {NULLS} nulls; 0 survive 0.05)"


@pytest.mark.full
def test_draws_do_not_depend_on_batches() -> None:
    model, sums = jax_model(*SHALLOW), []
    for size in (2, 6):
        config = svdtrace.TraceConfig(threshold=0.3, batch_size=size)
        asked = question(prepare_cached(model, config), prompts(), config, SEED)
        listed = look(asked, prompts(), "cpu")
        sums.append((listed.key, *draw(asked, listed, 2, prompts(), "cpu")[0].values()))
    for one, other in zip(*sums, strict=True):
        np.testing.assert_allclose(one, other, atol=1e3 * float(np.finfo(np.float32).eps) * len(LENGTHS))
