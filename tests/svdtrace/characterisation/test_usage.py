"""Firings, slices, idle pairs, used vectors and task tokens of every head against the slow float64 truth."""

from __future__ import annotations

from collections import Counter

import jax
import numpy as np
import oracle
import pytest
from oracle import characterisation as truth

import svdtrace
from svdtrace.characterisation import tabulating
from svdtrace.characterisation.characterising import characterise
from svdtrace.characterisation.usage import TAUS, head_usage
from svdtrace.errors import SettingError


def test_firings_and_their_slices_are_the_oracles(usage, pairs):
    where = usage.firings.where
    keys = list(zip(where.prompt, where.layer, where.head, where.dest, where.src, strict=True))
    assert keys == sorted(pairs.fired)
    assert {key[1] for key in keys} == {0, 1, 2}
    for row, key in enumerate(keys):
        slice_ = pairs.fired[key]
        assert np.flatnonzero(usage.firings.members[row]).tolist() == sorted(slice_.members)
        assert usage.firings.total[row] == pytest.approx(slice_.total, rel=1e-9, abs=1e-9)


def test_idle_pairs_have_the_oracles_sizes(usage, pairs):
    wanted = Counter((key[1], key[2], len(found.members)) for key, found in pairs.idle.items())
    assert min(found.total for found in pairs.idle.values()) < 0
    assert {tuple(key): int(usage.idle[tuple(key)]) for key in np.argwhere(usage.idle).tolist()} == dict(wanted)
    assert not usage.sampled


def test_every_tau_has_its_own_slice(usage, pairs):
    where = usage.firings.where
    for row in range(0, len(where), 7):
        key = tuple(int(getattr(where, name)[row]) for name in ("prompt", "layer", "head", "dest", "src"))
        p = pairs.products[key]
        for place, tau in enumerate(TAUS):
            slice_ = oracle.choose_slice(p, np.zeros(len(p)), tau)
            assert usage.firings.size_at[row, place] == len(slice_.members)
            assert usage.firings.kept_at[row, place] == pytest.approx(sum(slice_.products) / slice_.total, rel=1e-9)


@pytest.mark.full
@pytest.mark.usefixtures("promoted")
def test_a_sample_of_idle_pairs_is_seeded_bounded_and_a_part(model, prompts, usage, config):
    n_heads = usage.idle.shape[0] * usage.idle.shape[1]
    one, same, other = (
        head_usage(model[2], prompts, config, most_pairs=40 * n_heads + 1, seed=seed).idle for seed in (3, 3, 4)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.all(one <= usage.idle)
    # 40 pairs of tokens are drawn for every head; those at which it fires are not idle.
    assert one.sum() <= 40 * n_heads < usage.idle.sum()
    assert head_usage(model[2], prompts, config).idle.sum() == 0


def test_a_root_pair_is_the_firings_that_it_names(usage, pairs, prompts):
    named = [key for key in pairs.fired if key[1:3] == (2, 1)]
    at = usage.at("2.1@*:*")
    assert len(at) == len(named) > 2
    times = Counter(k for key in named for k in pairs.fired[key].members)
    assert at.times.tolist() == [times[k] for k in range(len(at.times))]
    assert at.used(2).tolist() == sorted(k for k in times if times[k] >= 2)
    dest, src = named[0][3:]
    assert len(usage.at(f"2.1@{dest}:{src}")) == sum(key[3:] == (dest, src) for key in named)


def test_counts_and_means_per_head(usage, pairs):
    sizes = {}
    for key, slice_ in pairs.fired.items():
        sizes.setdefault(key[1:3], []).append(len(slice_.members))
    for head, values in sizes.items():
        assert usage.count[head] == len(values)
        assert usage.mean_size[head] == pytest.approx(np.mean(values))
    assert usage.count.sum() == len(pairs.fired)
    assert np.isnan(usage.mean_size[usage.count == 0]).all()
    lowest = {"threshold": 0.3, "skip_first": True, "score_min": -np.inf}
    anyhow = sum(
        len(oracle.firings(acts, lowest, last, 0)) for acts, last in zip(pairs.acts, (7, 6, 7, 7), strict=True)
    )
    assert usage.count_any_score.sum() == anyhow > usage.count.sum()


@pytest.mark.usefixtures("promoted")
def test_used_vectors_and_task_tokens_are_the_oracles(model, prompts, usage, pairs, config):
    folded = oracle.prepare(*model[:2], "folded")
    used = tabulating.used_vectors(usage)
    for layer, head in np.argwhere(usage.count > 0)[::3]:
        vectors = truth.used_vectors(pairs, layer, head)
        assert np.flatnonzero(used[layer, head]).tolist() == vectors
        for side in ("dest", "src"):
            ranked = svdtrace.task_tokens(model[2], prompts, int(layer), int(head), vectors, side, config)
            wanted = truth.token_norms(folded, pairs, prompts, layer, head, vectors, side)
            assert sorted(wanted) == sorted(ranked.tokens.tolist())
            for token, norm in zip(ranked.tokens.tolist(), ranked.norm, strict=True):
                assert norm == pytest.approx(wanted[token], rel=1e-8)
            assert np.all(np.diff(ranked.norm) <= 0)
            assert 0 <= ranked.auc({prompt.tokens[2] for prompt in prompts}) <= 1


@pytest.mark.whole
def test_overlaps_are_mean_squared_cosines(found, model, pairs):
    svd = oracle.prepare(*model[:2], "folded").svd
    rows = [row for row in found.tables["overlaps"].to_pylist() if row["data_set"] == "prompts"]
    heads = {key[1:3] for key in pairs.fired}
    assert len(rows) == len(heads) * (len(heads) - 1) // 2
    for row in rows[::5]:
        one, other = (row["layer"], row["head"]), (row["other_layer"], row["other_head"])
        for side, vectors in (("dest", svd.U), ("src", svd.V)):
            columns = [vectors[head][:, truth.used_vectors(pairs, *head)] for head in (one, other)]
            assert row[side] == pytest.approx(truth.span_overlap(*columns), abs=1e-6)


@pytest.mark.whole
def test_tables_agree_with_each_other(found, usage):
    tables = {name: table.to_pylist() for name, table in found.tables.items()}
    for row in tables["heads"]:
        mine = [
            each for each in tables["sizes"] if all(each[name] == row[name] for name in ("data_set", "layer", "head"))
        ]
        assert sum(each["count"] for each in mine if each["fires"]) == row["firings"]
        assert sum(each["count"] for each in mine if not each["fires"]) == row["idle_pairs"]
        if row["firings"]:
            mean = sum(each["count"] * each["size"] for each in mine if each["fires"]) / row["firings"]
            assert row["mean_size"] == pytest.approx(mean, rel=1e-6)
    by_prompt = Counter()
    for row in tables["vectors_by_prompt"]:
        by_prompt[row["data_set"], row["layer"], row["head"], row["k"]] += row["times"]
    for row in tables["vectors"]:
        assert by_prompt[row["data_set"], row["layer"], row["head"], row["k"]] == row["firings"]
    whole = [row for row in tables["tau"] if row["layer"] is None and row["data_set"] == "prompts"]
    assert whole[-1]["mean_size"] == pytest.approx(usage.firings.size.mean(), rel=1e-6)
    assert found.manifest["data_sets"]["prompts"]["firings"] == len(usage.firings)


def test_what_has_no_meaning_is_refused(model, prompts):
    with pytest.raises(SettingError, match="paper, exact or relative"):
        head_usage(model[2], prompts, svdtrace.TraceConfig(method="all"))
    with pytest.raises(SettingError, match="layer 9 is outside 0 to 2"):
        svdtrace.task_tokens(model[2], prompts, 9, 0, [0])
    with pytest.raises(SettingError, match="dest or src"):
        svdtrace.task_tokens(model[2], prompts, 1, 0, [0], side="both")


@pytest.mark.full
def test_no_firings_are_no_error(model, prompts, tmp_path):
    none = characterise(model[2], prompts, None, svdtrace.TraceConfig(score_min=1e6))
    assert none.tables["vectors_by_prompt"].num_rows == none.tables["tokens"].num_rows == 0
    assert {row["mean_size"] for row in none.tables["heads"].to_pylist()} == {None}
    none.save(tmp_path / "none")
    assert jax.config.values["jax_enable_x64"] is False
