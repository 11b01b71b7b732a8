"""What slices filter out and what signals are, against the slow float64 truth."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from oracle import characterisation as truth

from svdtrace.characterisation import meaning_tables
from svdtrace.characterisation.concentration import MEASURES, concentration
from svdtrace.characterisation.directions import projected
from svdtrace.characterisation.filtering import filtering_of
from svdtrace.characterisation.signals import nearest_tokens, signals_between, strongest_kinds
from svdtrace.tracing.devices import precision
from svdtrace.tracing.rows import SIDES
from svdtrace.tracing.trace import prepare_cached


@pytest.fixture(scope="module")
def folded(model):
    return oracle.prepare(*model[:2], "folded")


@pytest.fixture(scope="module")
def example(usage):
    return meaning_tables.example_firing(usage, None)


@pytest.fixture(scope="module")
def computed(model, prompts, config, usage, example):
    """Filtering and signals in float64, and the model that they were computed with."""
    with precision(config):
        prepared = prepare_cached(model[2], config)
        filtered = filtering_of(prepared, prompts, config, example)
        kinds = strongest_kinds(filtered.edges, prompts, model[1]["n_heads"])
        return prepared, filtered, signals_between(prepared, usage, filtered.edges, config, kinds)


@pytest.fixture(scope="module")
def wanted(folded, pairs):
    """By firing of layer ≥ 1 and side: every head's contribution by S and by every vector."""
    found = {}
    for key, slice_ in pairs.fired.items():
        if not key[1]:
            continue
        every = range(int(folded.svd.rank[key[1], key[2]]))
        for side in SIDES:
            found[key, side] = [
                truth.head_contributions(folded, pairs.acts[key[0]], key[1:], members, "exact", side)
                for members in (slice_.members, every)
            ]
    return found


def test_measures_per_head_are_the_oracles(computed, wanted):
    filtered = computed[1]
    assert len(filtered.measures) == len(wanted) // 2 > 20
    for layer, head in {key[1:3] for key, _ in wanted}:
        mine = filtered.measures[(filtered.layer == layer) & (filtered.head == head)]
        for z, side in enumerate(SIDES):
            theirs = [both for (key, of), both in wanted.items() if key[1:3] == (layer, head) and of == side]
            for part in (0, 1):
                rows = [truth.concentration(both[part]) for both in theirs]
                for m, measure in enumerate(MEASURES):
                    mean = np.mean([row[measure] for row in rows])
                    assert mine[:, m, part, z].mean() == pytest.approx(mean, rel=1e-7), (layer, head, side, measure)


def test_the_example_is_shown_whole(computed, wanted, example):
    shown = computed[1].example
    for z, side in enumerate(SIDES):
        for part in (0, 1):
            theirs = wanted[example, side][part]
            assert np.isfinite(shown[part, z]).sum() == len(theirs)
            np.testing.assert_allclose(shown[part, z][: len(theirs)], theirs, rtol=1e-8, atol=1e-10)


def test_edges_are_the_coverage_rules(computed, wanted):
    edges = computed[1].edges
    columns = (edges.prompt, edges.layer, edges.head, edges.dest, edges.src, edges.side, edges.writer)
    mine = set(zip(*(column.tolist() for column in columns), strict=True))
    theirs = {
        (*key, SIDES.index(side), w)
        for (key, side), both in wanted.items()
        for w in oracle.coverage_cut(both[0], 0.7).chosen
    }
    assert mine == theirs


def test_signals_are_projections_of_what_was_written(computed, folded, pairs):
    _, filtered, signals = computed
    edges = filtered.edges
    assert len(signals.kinds) == 40
    assert all(np.diff([kind.weight for kind in signals.kinds]) <= 1e-12)
    for number, kind in list(enumerate(signals.kinds))[::6]:
        sent, wrote = [], []
        for row in kind.rows:
            key = tuple(int(getattr(edges, name)[row]) for name in ("prompt", "layer", "head", "dest", "src"))
            P = oracle.signal_projector(folded.svd, key[1:], pairs.fired[key].members, kind.side)
            y = pairs.acts[key[0]]["head_out"][kind.writer[0], edges.token[row], kind.writer[1]]
            sent.append(y @ P)
            wrote.append(np.linalg.norm(y))
        norms = np.linalg.norm(sent, axis=1)
        mean = np.mean(sent, axis=0)
        np.testing.assert_allclose(signals.direction[number], mean / np.linalg.norm(mean), atol=1e-8)
        assert signals.norm[number] == pytest.approx(norms.mean(), rel=1e-8)
        assert signals.kept[number] == pytest.approx((norms / wrote).mean(), rel=1e-8)
        alike = np.linalg.norm(np.mean(np.asarray(sent) / norms[:, None], axis=0))
        assert signals.agreement[number] == pytest.approx(alike, rel=1e-8)
    assert np.allclose(np.diag(signals.cosines()), 1)


def test_nearest_tokens_have_the_largest_cosines(computed, folded):
    prepared, _, signals = computed
    tokens, cosines = nearest_tokens(prepared, signals.direction)
    W_U = folded.params["W_U"]
    for row in range(0, len(tokens), 9):
        every = signals.direction[row] @ W_U / np.linalg.norm(W_U, axis=0)
        assert tokens[row].tolist() == np.argsort(-every)[: tokens.shape[1]].tolist()
        np.testing.assert_allclose(cosines[row], every[tokens[row]], atol=1e-8)


def test_a_projector_onto_dependent_vectors_drops_what_depends():
    rng = np.random.default_rng(0)
    free = np.linalg.qr(rng.normal(size=(6, 3)))[0]
    # The last row's own axis, once alone and once shared by two vectors of norm 1.
    alone = np.zeros((7, 3))
    alone[:6, 1:] = free[:, 1:]
    alone[6, 0] = 1
    shared = np.zeros((7, 3))
    shared[:6, 0], shared[6, 0] = 0.6 * free[:, 0], 0.8
    shared[:6, 1], shared[6, 1] = -0.8 * free[:, 0], 0.6
    shared[:6, 2] = free[:, 2]
    for vectors in (alone, shared):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-12)
        for members in ([0], [0, 1], [0, 1, 2], [1, 2]):
            basis = np.linalg.svd(vectors[:6, members], full_matrices=False)
            basis = basis[0][:, basis[1] > 1e-6]
            y = rng.normal(size=(1, 4, 6))
            marked = np.broadcast_to(np.isin(range(3), members), (1, 4, 3))
            got = projected(*(jnp.asarray(each, jnp.float32) for each in (y, vectors[None])), jnp.asarray(marked))
            np.testing.assert_allclose(got, y @ basis @ basis.T, atol=2e-6)


def test_concentration_of_nothing_is_none_and_of_one_is_whole():
    none = np.asarray(concentration(jnp.array([[0.0, 0.0, -jnp.inf], [0.0, -3.0, -jnp.inf], [2.0, -2.0, 0.0]])))
    # The tables make null of it.
    assert np.all(none[:, 0] == 0)
    np.testing.assert_allclose(none[:, 1], [1, 1, 1, 1])
    np.testing.assert_allclose(none[:, 2], [0.5, 1, 2, 0], rtol=1e-6)
