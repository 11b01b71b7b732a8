"""What the strategies promise to draw."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from laws.examples import CONFIG, random_model

import svdtrace.testing
from gpt2jax.config import GPT2Config
from gpt2jax.params import Model
from svdtrace.prompts import Prompt
from svdtrace.testing import Ratio
from svdtrace.testing.strategies import (
    HUGE,
    NORMS,
    SCALES,
    SPECTRA,
    TINY,
    aim,
    gpt2_configs,
    gpt2_models,
    heads,
    made_head,
    prompt_batches,
    spectrum,
    with_norms,
)
from svdtrace.tracing.trace import check_prompts

some = settings(max_examples=40, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
few = settings(some, max_examples=3)


@pytest.fixture(scope="module")
def plain() -> Model:
    return random_model(0)


def test_every_kind_of_head_is_drawn() -> None:
    seen = set()

    @settings(some, max_examples=300)
    @given(heads())
    def look(head: tuple[np.ndarray, np.ndarray]) -> None:
        A, B = head
        assert A.dtype == B.dtype == np.float32
        assert A.shape == B.shape
        assert np.isfinite(A).all()
        assert np.isfinite(B).all()
        d, h = A.shape[0] - 1, A.shape[1]
        values = np.linalg.svd(A.astype(float) @ B.T.astype(float), compute_uv=False)
        seen.update({"d_head 1"} if h == 1 < d else set())
        seen.update({"d_head = d_model"} if h == d > 1 else set())
        seen.update({"zero"} if values[0] == 0 else set())
        seen.update({"tiny"} if 0 < values[0] < TINY / np.finfo(np.float32).eps * 2 else set())
        seen.update({"huge"} if values[0] > HUGE * np.finfo(np.float32).eps / 2 else set())

    look()
    assert seen == {"d_head 1", "d_head = d_model", "zero", "tiny", "huge"}


@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("scale", SCALES)
def test_a_head_has_the_singular_values_of_its_kind(kind: str, scale: float) -> None:
    A, B = (each.astype(float) for each in made_head(12, 4, kind, scale, seed=5))
    values = np.linalg.svd(A @ B.T, compute_uv=False)[:4] / scale
    # A and B are rounded to float32, in a gauge of condition 4 at most.
    np.testing.assert_allclose(values, spectrum(kind, 4, np.random.default_rng(5)), rtol=0, atol=1e-5)


@some
@given(config=gpt2_configs())
def test_configurations_are_such_as_a_checkpoint_may_have(config: GPT2Config) -> None:
    assert GPT2Config.from_hf(config.to_hf()) == config
    assert config.d_model % config.n_heads == 0


@few
@given(model=gpt2_models(CONFIG))
def test_models_are_finite(model: Model) -> None:
    assert model.config == CONFIG
    assert all(np.isfinite(np.asarray(each)).all() for each in jax.tree.leaves(model.params))


@pytest.mark.parametrize("kind", NORMS)
def test_norms_are_changed(plain: Model, kind: str) -> None:
    other = with_norms(plain, kind)
    same = [np.array_equal(*pair) for pair in zip(*map(jax.tree.leaves, (plain.params, other.params)), strict=True)]
    assert same.count(False) == {"plain": 0, "outliers": 1, "tiny": 1, "huge": 2}[kind]


@some
@given(prompts=prompt_batches(CONFIG))
def test_prompts_are_such_as_the_model_reads(plain: Model, prompts: list[Prompt]) -> None:
    assert check_prompts(plain, prompts) == prompts
    lengths = [len(each.tokens) for each in prompts]
    assert {1, CONFIG.n_ctx} <= set(lengths)
    assert any(len(set(each.tokens)) == 1 for each in prompts)


@given(value=st.sampled_from([0.5, 2.0]))
@settings(some, max_examples=5)
def test_aiming_tells_what_fails(value: float) -> None:
    ratio = Ratio("made_up", value, 1.0, "1.2")
    if ratio.holds:
        return aim([ratio])
    with pytest.raises(AssertionError, match=r"made_up: ratio 2 ≥ 1 at 1\.2"):
        aim([ratio])
    return None


def test_laws_do_without_hypothesis(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(svdtrace.testing.__file__).parent
    needing = [
        path.name
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module in ("hypothesis", "svdtrace.testing.strategies")
    ]
    assert set(needing) == {"strategies.py"}
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.delitem(sys.modules, "svdtrace.testing.strategies")
    with pytest.raises(ImportError, match="pip install hypothesis"):
        importlib.import_module("svdtrace.testing.strategies")
