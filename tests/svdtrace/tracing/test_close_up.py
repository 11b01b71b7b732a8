"""What is looked at closely: parts sum to what the trace's own tables say."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import gpt2jax
import svdtrace
from svdtrace.prompts import Prompt
from svdtrace.tracing.close_up import TOKENS, looked_at

SMALL = gpt2jax.GPT2Config(n_layers=3, n_heads=2, d_model=8, d_mlp=12, n_ctx=12, d_vocab=17)
STORED = float(np.finfo(np.float32).eps)
"""Tables hold float32; the traces are of float64."""
FIRING = ("prompt", "layer", "head", "dest", "src")
EDGE = (*FIRING, "writer", "side", "token")
RAW = {"writers": "all", "processing": "raw", "threshold": 0.3}
OTHERS: list[dict[str, Any]] = [
    {"method": "paper", "threshold": 0.3},
    {"method": "all", "processing": "raw", "threshold": 0.3},
    {"method": "relative", "keys": "own"},
    {"method": "relative", "keys": "all", "select": "until", "skip_first": False},
]


def prompts(count: int = 3) -> list[Prompt]:
    rng = np.random.default_rng(1)
    rows = [tuple(map(int, rng.integers(0, SMALL.d_vocab, 7 + place % 2))) for place in range(count)]
    return [Prompt(None, row, tuple(map(str, row)), {"A": 2, "end": 5}) for row in rows]


def traced(settings: dict[str, Any], of: list[Prompt] | None = None) -> svdtrace.Trace:
    model = gpt2jax.random_model(SMALL, jax.random.key(3), std=0.8, biases=0.3)
    # In float64 positions are 64-bit and tokens are not, of which strict promotion complains.
    with jax.numpy_dtype_promotion("standard"):
        return svdtrace.trace(model, of or prompts(), svdtrace.TraceConfig(dtype="float64", **settings))


def hold(trace: svdtrace.Trace) -> None:
    """The laws of close-ups."""
    assert trace.close_ups is not None
    assert trace.edges.num_rows > 20
    firings = {tuple(row[name] for name in FIRING): row for row in trace.firings.to_pylist()}
    edges = {tuple(row[name] for name in EDGE): row for row in trace.edges.to_pylist()}
    relative, keys = trace.manifest["config"]["method"] == "relative", trace.manifest["config"]["keys"]
    met, of_firing = [], {}
    for row in trace.close_ups.to_pylist():
        place = tuple(row[name] for name in FIRING)
        if row["writer"] is None:
            firing, scores = firings[place], np.asarray(row["scores"])
            met.append(place)
            of_firing = row
            assert len(scores) == row["dest"] + 1
            power = np.exp(scores - scores.max())
            error = 4 * STORED * (1 + np.abs(scores).max())
            np.testing.assert_allclose((power / power.sum())[row["src"]], firing["pattern"], rtol=error)
            np.testing.assert_allclose(scores[row["src"]], firing["score"], rtol=STORED)
            continue
        weight, parts = edges.pop(tuple(row[name] for name in EDGE))["weight"], row["by_vector"]
        assert len(parts) == firings[place]["size"]
        assert abs(sum(parts) - weight) <= STORED * (abs(weight) + np.abs(parts).sum())
        assert (row["scores"] is not None) == relative
        if relative and (keys == "summed" or row["side"] == "dest"):
            each = np.asarray(of_firing["path"]) * np.asarray(row["scores"])
            assert abs(each.sum() - weight) <= STORED * (abs(weight) + 2 * np.abs(each).sum())
    assert sorted(met) == sorted(firings)
    assert not edges


@pytest.mark.whole
def test_parts_of_every_writer_sum_to_weights_on_raw_weights():
    """Catches a writer read at another token, scale, side or head, a bias left out, and a row of another key."""
    hold(traced(RAW))


@pytest.mark.whole
def test_rows_of_relative_attention_meet_the_path_weights():
    hold(traced({"method": "relative"}))


@pytest.mark.full
@pytest.mark.parametrize("settings", OTHERS, ids=lambda each: "-".join(map(str, each.values())))
def test_parts_under_other_settings(settings: dict[str, Any]):
    hold(traced(settings))


def test_the_likeliest_tokens_are_the_logits():
    """Catches tokens of another position, and probabilities that are not among all."""
    given = prompts()
    trace = traced(RAW, given)
    model = gpt2jax.random_model(SMALL, jax.random.key(3), std=0.8, biases=0.3)
    for place, prompt in enumerate(given):
        logits = np.asarray(gpt2jax.forward(model, np.asarray([prompt.tokens], np.int32)).logits)[0, prompt.last]
        mine = [row for row in trace.likeliest.to_pylist() if row["prompt"] == place]
        assert [row["token"] for row in mine] == np.argsort(-logits)[:5].tolist()
        chance = np.exp(logits - logits.max())
        expected = (chance / chance.sum())[[row["token"] for row in mine]]
        # Float32's logits: their error is that of sums over the model's layers.
        error = 64 * STORED * (1 + np.abs(logits).max())
        np.testing.assert_allclose([row["probability"] for row in mine], expected, rtol=error)


def test_the_first_prompts_are_looked_at():
    assert looked_at([TOKENS + 1, 3]) == 1
    assert looked_at([TOKENS - 3, 3, 1]) == 2
    assert looked_at([4]) == 1
