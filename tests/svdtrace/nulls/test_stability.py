"""Reruns of a trace: which there are, what turning nearly equal vectors leaves, and who is in them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import jax_model, random_tokens, small_model

import svdtrace
from svdtrace.method.decomposition import Decomposition
from svdtrace.nulls.stability import edge_keys, reruns, stability, turned
from svdtrace.prompts import Prompt
from svdtrace.tracing.rows import WriterOrder

EPS = float(np.finfo(np.float32).eps)


def test_the_reruns_are_those_of_the_method() -> None:
    names = [rerun.name for rerun in reruns(svdtrace.TraceConfig(roots="logit"))]
    settings = ["tau=0.98", "tau=0.96", "coverage=0.65", "coverage=0.75", "threshold=0.45", "threshold=0.55"]
    assert names == ["float64", *settings, "turned"]
    assert {rerun.config.roots for rerun in reruns(svdtrace.TraceConfig(roots="logit"))} == {"all"}
    assert "tau=0.92" in [rerun.name for rerun in reruns(svdtrace.TraceConfig(tau=0.9))]
    # Nothing leaves its range.
    assert [rerun.name for rerun in reruns(svdtrace.TraceConfig(coverage=0.98, threshold=0.03))][3:5] == [
        "coverage=0.93",
        "threshold=0.08",
    ]


def test_turning_nearly_equal_vectors_leaves_the_head_as_it_is() -> None:
    rng = np.random.default_rng(0)
    U, V = (np.linalg.qr(rng.normal(size=(1, 2, 9, 4)))[0].astype(np.float32) for _ in range(2))
    S = np.array([[[2.0, 1.9995, 1.0, 0.5], [3.0, 2.0, 1.9999, 1.9997]]], np.float32)
    before = Decomposition(U=jnp.asarray(U), S=jnp.asarray(S), V=jnp.asarray(V))
    after = turned(before, jax.random.key(0))
    omega = [np.einsum("lndk,lnk,lnek->lnde", each.U, S, each.V) for each in (before, after)]
    assert np.abs(omega[0] - omega[1]).max() <= 10 * 4 * EPS * S.max()
    moved = np.linalg.norm(np.abs(np.asarray(after.U)) - np.abs(U), axis=-2)[0]
    close = np.array([[True, True, False, False], [False, True, True, True]])
    assert np.array_equal(moved > 0.05, close)
    assert np.all(moved[~close] <= 10 * EPS)


@pytest.mark.full
def test_stability_is_the_share_of_reruns(tmp_path: Path) -> None:
    params, config = small_model(1)
    tokens = random_tokens(3, 8, config)
    prompts = [Prompt(None, tuple(map(int, row)), tuple(map(str, row)), {"end": 7}) for row in tokens]
    model, settings = jax_model(params, config), svdtrace.TraceConfig(threshold=0.3)
    with jax.numpy_dtype_promotion("standard"):
        trace = svdtrace.trace(model, prompts, settings)
        found = stability(model, prompts, trace)
    its, order = found.edges["stability"].to_numpy(), trace.edges.num_rows
    assert len(its) == order > 0
    assert set(np.unique(its * 8)) <= set(range(9))
    assert its.min() < 1 == its.max()
    found.save(tmp_path / "out")
    for edges in (found.edges, svdtrace.read(tmp_path / "out").edges):
        assert edges.schema.metadata[b"stability"].decode().split(", ") == found.manifest["stability"]["reruns"]
    assert found.manifest["stability"]["mean"] == pytest.approx(float(its.mean()), abs=1e-4)
    assert len(np.unique(edge_keys(trace.edges, WriterOrder.of(2, 3), 16))) == order
