"""What Hypothesis draws for laws: heads, configurations, models and prompts, awkward ones among them.

    from hypothesis import given
    from svdtrace.testing import decomposition_laws, strategies

    @given(strategies.heads())
    def test_mine(head):
        strategies.aim(decomposition_laws(*head, *mine(*head)))

The families are those of LAPACK's test programs (TESTING, dlatms and ddrvbd): singular values that are equal,
clustered, geometric or one alone, ranks below full, scales near underflow and overflow; beside them what transformers
have.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

try:
    from hypothesis import strategies as st
    from hypothesis import target
except ImportError as error:  # laws and `svdtrace verify` do without it
    raise ImportError("svdtrace.testing.strategies needs Hypothesis; pip install hypothesis") from error

import gpt2jax
from gpt2jax.config import GPT2Config
from gpt2jax.params import LayerNorm, Model
from svdtrace.method.ratios import Ratio
from svdtrace.prompts.prompt import Prompt
from svdtrace.testing.listing import assert_hold

ULP, TINY, HUGE = (float(getattr(np.finfo(np.float32), name)) for name in ("eps", "tiny", "max"))
SCALES = (1.0, TINY / ULP, HUGE * ULP)
"""Of Ω: as LAPACK's test programs have it, as small and as large as leaves room for rounding errors."""
SPECTRA = ("normal", "equal", "clustered", "geometric", "graded", "one", "short", "zero")
OUTLIER = 1e3
NORMS = ("plain", "outliers", "tiny", "huge")


def spectrum(kind: str, n_values: int, rng: np.random.Generator) -> np.ndarray:
    """Singular values of one kind, falling, σ_0 about 1.

    `normal`: those of random matrices; `equal`: all; `clustered`: two clusters a few ulps wide; `geometric`: down to an
    ulp; `graded`: arithmetic; `one`: one large, the rest an ulp; `short`: half of them 0; `zero`: all.
    """
    falling = np.arange(n_values) / max(1, n_values - 1)
    made = {
        "normal": np.sort(rng.uniform(0.1, 1, n_values))[::-1],
        "equal": np.ones(n_values),
        "clustered": np.where(falling < 0.5, 1.0, 0.5) * (1 + 4 * ULP * rng.uniform(size=n_values)),
        "geometric": ULP**falling,
        "graded": 1 - falling * (1 - ULP),
        "one": np.where(falling == 0, 1.0, ULP),
        "short": np.where(np.arange(n_values) < max(1, n_values // 2), rng.uniform(0.5, 1, n_values), 0.0),
        "zero": np.zeros(n_values),
    }
    return np.sort(made[kind])[::-1]


def made_head(
    d_model: int, d_head: int, kind: str = "normal", scale: float = 1.0, *, seed: int = 0, outliers: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A and B, each [d_model+1 d_head] float32, whose Ω has singular values of one kind times a scale.

    Args:
        outliers: whether a few dimensions of the residual are read a thousand times as strongly as the others; the
            singular values are then no longer those of the kind.
    """
    rng = np.random.default_rng(seed)
    sigma = spectrum(kind, d_head, rng)
    left, right = (np.linalg.qr(rng.normal(size=(d_model + 1, d_head)))[0] for _ in range(2))
    # In a gauge of its own, half of the singular values on either side.
    M = np.linalg.qr(rng.normal(size=(d_head, d_head)))[0] * rng.uniform(0.5, 2, d_head)
    A, B = (left * np.sqrt(sigma)) @ M, (right * np.sqrt(sigma)) @ np.linalg.inv(M).T
    if outliers:
        rows = rng.integers(0, d_model, max(1, d_model // 16))
        A[rows] *= OUTLIER
        B[rows] *= OUTLIER
    root = scale**0.5
    return (A * root).astype(np.float32), (B * root).astype(np.float32)


@st.composite
def heads(draw: st.DrawFn, d_model: int | None = None, d_head: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(A, B) of one head, [d_model+1 d_head] float32: d_head 1, d_model and between, every spectrum, every scale."""
    d = draw(st.sampled_from((1, 4, 16, 48))) if d_model is None else d_model
    h = draw(st.sampled_from(sorted({1, max(1, d // 4), d}))) if d_head is None else d_head
    outliers = draw(st.booleans())
    # Outliers reach the end of the range by themselves.
    scale = 1.0 if outliers else draw(st.sampled_from(SCALES))
    return made_head(d, h, draw(st.sampled_from(SPECTRA)), scale, seed=draw(st.integers(0, 2**16)), outliers=outliers)


@st.composite
def gpt2_configs(draw: st.DrawFn, max_layers: int = 3, d_models: Sequence[int] = (4, 8, 16)) -> GPT2Config:
    """Configurations: one head or several, d_head 1 and d_model among them, scaled attention or not."""
    d = draw(st.sampled_from(tuple(d_models)))
    return GPT2Config(
        n_layers=draw(st.integers(1, max_layers)),
        n_heads=draw(st.sampled_from([n for n in (1, 2, 4, d) if d % n == 0])),
        d_model=d,
        d_mlp=draw(st.sampled_from((d, 4 * d))),
        n_ctx=draw(st.integers(2, 12)),
        d_vocab=draw(st.integers(2, 40)),
        scale_attn_weights=draw(st.booleans()),
        scale_attn_by_inverse_layer_idx=draw(st.booleans()),
    )


@st.composite
def gpt2_models(draw: st.DrawFn, config: GPT2Config | None = None) -> Model:
    """Raw random models: one head of a drawn spectrum, LayerNorms plain, with outliers, or extreme.

    Args:
        config: by default a drawn one; every new shape is compiled anew, so that fixing it saves time.
    """
    shape = draw(gpt2_configs()) if config is None else config
    seed, std = draw(st.integers(0, 2**16)), draw(st.sampled_from((0.2, 0.35, 0.45)))
    kind, norm = draw(st.sampled_from(SPECTRA)), draw(st.sampled_from(NORMS))
    with _random_as_it_was():
        model = gpt2jax.random_model(shape, jax.random.key(seed), std=std, biases=0.3)
        return with_norms(with_head(model, kind, seed=seed), norm, seed=seed)


@contextmanager
def _random_as_it_was() -> Iterator[None]:
    """JAX draws from the module `random` while it compiles, which Hypothesis forbids strategies."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def with_head(model: Model, kind: str, *, seed: int = 0) -> Model:
    """The model with queries and keys of one head of its last layer made of a spectrum, as strong as they were."""
    config, blocks = model.config, model.params.blocks
    at = (config.n_layers - 1, seed % config.n_heads)
    size = float(np.linalg.norm(np.asarray(blocks.W_Q[at]))) * float(np.linalg.norm(np.asarray(blocks.W_K[at])))
    A, B = made_head(config.d_model, config.d_head, kind, size / config.d_head**0.5, seed=seed)
    changed = {
        name: getattr(blocks, name).at[at].set(jnp.asarray(value))
        for name, value in (("W_Q", A[:-1]), ("b_Q", A[-1]), ("W_K", B[:-1]), ("b_K", B[-1]))
    }
    return replace(model, params=replace(model.params, blocks=replace(blocks, **changed)))


def with_norms(model: Model, kind: str, *, seed: int = 0) -> Model:
    """The model with the γ and β of its first LayerNorms changed.

    `plain`: as they are; `outliers`: a few dimensions a thousand times as strong in what is written; `tiny`: γ near 0,
    so that β is all that is read; `huge`: γ and β a hundred times as strong.
    """
    if kind == "plain":
        return model
    params, blocks = model.params, model.params.blocks
    if kind == "outliers":
        d = model.config.d_model
        strong = np.where(np.random.default_rng(seed).permutation(d) < max(1, d // 16), OUTLIER, 1.0)
        return replace(model, params=replace(params, W_pos=params.W_pos * jnp.asarray(strong, jnp.float32)[None]))
    gain, shift = (1e-6, 1.0) if kind == "tiny" else (1e2, 1e2)
    norm = LayerNorm(w=blocks.ln1.w * gain, b=blocks.ln1.b * shift)
    return replace(model, params=replace(params, blocks=replace(blocks, ln1=norm)))


@st.composite
def prompt_batches(draw: st.DrawFn, config: GPT2Config, count: int = 6, longest: int | None = None) -> list[Prompt]:
    """Prompts: one token, all tokens equal, mixed lengths, one of the longest; some end before their last token.

    Args:
        longest: by default what the model reads at most, `n_ctx`.
    """
    most = config.n_ctx if longest is None else longest
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    lengths = [most, 1, *draw(st.lists(st.integers(1, most), min_size=count, max_size=count))][:count]
    equal = draw(st.integers(0, count - 1))
    prompts = []
    for place, length in enumerate(lengths):
        ids = rng.integers(0, config.d_vocab, length)
        ids = np.full(length, ids[0]) if place == equal else ids
        roles = {"end": int(rng.integers(0, length))} if place % 2 else {}
        prompts.append(Prompt(id=None, tokens=tuple(ids.tolist()), strings=tuple(map(str, ids)), roles=roles))
    return prompts


def aim(ratios: Sequence[Ratio]) -> None:
    """Let Hypothesis look for larger ratios, and assert that every law holds."""
    for each in ratios:
        if np.isfinite(each.value):
            target(each.value / each.threshold, label=each.law)
    assert_hold(list(ratios))
