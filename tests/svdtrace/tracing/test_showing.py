"""How a trace, and what it is made of, show themselves: in a notebook, as frames, as pictures."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import gpt2jax
import svdtrace
from svdtrace.errors import FrameError, ModelError, PromptError
from svdtrace.explaining import frames
from svdtrace.prompts import Prompt

pytestmark = pytest.mark.whole

SMALL = gpt2jax.GPT2Config(n_layers=3, n_heads=2, d_model=8, d_mlp=12, n_ctx=12, d_vocab=17)
LARGEST = 100_000


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return gpt2jax.random_model(SMALL, jax.random.key(3), std=0.8, biases=0.3)


@pytest.fixture(scope="module")
def traced(model: gpt2jax.Model) -> svdtrace.Trace:
    rng = np.random.default_rng(1)
    rows = [tuple(map(int, rng.integers(0, SMALL.d_vocab, 7))) for _ in range(2)]
    prompts = [Prompt(None, row, (*map(str, row[:-1]), "<b>"), {"A": 2, "end": 5}) for row in rows]
    return svdtrace.trace(model, prompts, svdtrace.TraceConfig(threshold=0.3, processing="raw", writers="all"))


def test_everything_shows_itself_in_little(model: gpt2jax.Model, traced: svdtrace.Trace):
    """Catches a page that asks the network, runs a script, or is too long for a notebook; and a long plain text."""
    row = traced.edges.to_pylist()[0]
    place = f"{row['layer']}.{row['head']}@{row['dest']}:{row['src']}"
    output = gpt2jax.forward(model, np.zeros((2, 3), np.int32), taps="blocks.*.attn.hook_pattern")
    things = [
        (traced, "Trace(2 prompts, "),
        (traced.graph(), "CircuitGraph("),
        (svdtrace.decompose(model), "Decomposition(3 layers of 2 heads, 4 pairs"),
        (output, "Output(logits float32 [2, 3, 17], blocks.*.attn.hook_pattern"),
        (traced.why(row["prompt"], firing=place), f"Why(prompt {row['prompt']}, {row['layer']}.{row['head']} at "),
    ]
    for thing, said in things:
        html = thing._repr_html_()
        assert 200 < len(html) < LARGEST
        assert not any(each in html for each in ("<script", "http:", "https:", "src=", "url("))
        assert repr(thing).startswith(said)
        assert len(repr(thing)) < 200


def test_an_outputs_table_names_the_likeliest_tokens(model: gpt2jax.Model):
    output = gpt2jax.forward(model, np.asarray([[1, 2, 3]], np.int32))
    assert output.logits is not None
    best = int(np.argmax(np.asarray(output.logits)[0, -1]))
    assert f'<td style="text-align:left">{best} (' in output._repr_html_()


def test_a_heads_pattern_is_the_models(model: gpt2jax.Model, traced: svdtrace.Trace):
    """Catches another prompt's, layer's or head's pattern, and axes turned."""
    for row in traced.firings.to_pylist()[:5]:
        pattern = traced.head_pattern(row["prompt"], row["layer"], row["head"])
        np.testing.assert_allclose(pattern[row["dest"], row["src"]], row["pattern"], rtol=1e-5)
    assert traced.plot_pattern(0, 1, 1)._repr_png_().startswith(b"\x89PNG")
    assert traced.plot()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ModelError, match=r"no head 3\.0"):
        traced.head_pattern(0, 3, 0)
    with pytest.raises(PromptError, match="prompt 9 is not in the trace"):
        traced.head_pattern(9, 1, 0)
    other = gpt2jax.random_model(SMALL, jax.random.key(4))
    with pytest.raises(ModelError, match="another model"):
        traced.head_pattern(0, 1, 0, other)


def test_a_trace_that_was_read_asks_for_its_model(model: gpt2jax.Model, traced: svdtrace.Trace, tmp_path):
    traced.save(tmp_path / "trace")
    read = svdtrace.read(tmp_path / "trace")
    assert read.close_ups is not None
    assert read.close_ups.equals(traced.close_ups)
    assert read.likeliest is not None
    assert read.likeliest.equals(traced.likeliest)
    with pytest.raises(ModelError, match="holds no model"):
        read.head_pattern(0, 1, 0)
    np.testing.assert_array_equal(read.head_pattern(0, 1, 0, model), traced.head_pattern(0, 1, 0))


def test_frames_have_names_and_texts(traced: svdtrace.Trace, monkeypatch: pytest.MonkeyPatch):
    """What is installed makes the frame; here a stand-in that keeps the table."""
    monkeypatch.setattr(frames, "find_spec", lambda name: name == "polars" or None)
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(from_arrow=lambda table: table))
    firings, edges = traced.firings_frame(), traced.edges_frame()
    strings = traced.prompts["strings"].to_pylist()
    for row in firings.to_pylist():
        assert row["name"] == f"{row['layer']}.{row['head']}"
        assert (row["dest_string"], row["src_string"]) == tuple(
            strings[row["prompt"]][row[at]] for at in ("dest", "src")
        )
    for row in edges.to_pylist():
        assert row["token_string"] == strings[row["prompt"]][row["token"]]
        assert row["reader"] == f"{row['layer']}.{row['head']}"
    monkeypatch.setattr(frames, "find_spec", lambda _name: None)
    with pytest.raises(FrameError, match="pip install pandas, or polars"):
        traced.firings_frame()
