"""Logits, hidden states, q, k, v, z and patterns equal Hugging Face's GPT2LMHeadModel, within what rounding allows."""

# ruff: noqa: E402  (whether PyTorch is there is asked before what needs it is imported)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `parity`: PyTorch")
pytest.importorskip("transformers", reason="needs the extra `parity`: Hugging Face transformers")

from transformers import GPT2LMHeadModel

import gpt2jax
from parity.comparing import (
    MORE_ACTIVATIONS,
    SWITCHES,
    arrays,
    at_real_tokens,
    at_two_precisions,
    bounds_at,
    differences,
    ours,
    ours_in,
    theirs,
)
from parity.hugging_face import tiny_model

pytestmark = pytest.mark.parity


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], bounds: dict[str, np.ndarray]) -> None:
    for name, (difference, allowed, share) in differences(found, expected, bounds).items():
        assert share <= 1, f"{name} differs by {difference:.3g}, {share:.3g} of what rounding allows ({allowed:.3g})"


@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_value(tmp_path: Path, switches: dict[str, Any]):
    found = at_two_precisions(tmp_path, switches)
    for values in found.values():
        assert_close(*values)
    # The bounds say something: they are far below what they bound.
    _, single, bounds = found["float32"]
    assert np.max(bounds["logits"]) < 0.01 * np.max(np.abs(single["logits"]))


@pytest.mark.full
@pytest.mark.parametrize("name", MORE_ACTIVATIONS)
def test_every_other_activation(tmp_path: Path, name: str):
    for values in at_two_precisions(tmp_path, {"activation_function": name}).values():
        assert_close(*values)


def test_the_models_are_no_trivial_ones():
    values = arrays(theirs(tiny_model()))
    several = values["pattern"][:, 0, :, 2:]
    assert 0.05 < np.mean(several[several > 0] < 0.05) < 0.8
    assert 0.05 < np.mean(several > 0.5) < 0.5
    assert np.mean(np.abs(values["pre"]) < 2) > 0.5
    scale = np.std(values["resid_pre"], axis=-1)
    assert np.max(scale) > 1.5 * np.min(scale)


def test_positions_count_from_the_first_token_by_default(tmp_path: Path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    expected = arrays(theirs(model, positions=None))
    bounds = bounds_at(float(np.finfo("float32").eps), model=model.double())[0]
    found = ours(gpt2jax.load(tmp_path), positions=None)
    # The bounds are those of the pass with positions given: the same for what is padded on the right.
    prompts = slice(0, 3)
    for name in ("final", "logits"):
        difference = at_real_tokens(name, np.abs(found[name] - expected[name]))
        assert np.all(difference[prompts] <= 2 * bounds[name][prompts])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("max_shard_size", ["1GB", "8KB"])
def test_half_precision_and_shards(tmp_path: Path, dtype: str, max_shard_size: str):
    model = tiny_model(tie_word_embeddings=False).to(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size=max_shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (max_shard_size == "8KB")
    model = model.float()
    single = arrays(theirs(model))
    bounds = bounds_at(float(np.finfo("float32").eps), model=model.double())[0]
    assert_close(ours_in("float32", tmp_path), single, bounds)


@pytest.mark.parametrize("tied", [True, False])
def test_they_read_what_we_write(tmp_path: Path, tied: bool):
    tiny_model(n_inner=24, activation_function="relu", tie_word_embeddings=tied).save_pretrained(tmp_path / "theirs")
    loaded = gpt2jax.load(tmp_path / "theirs")
    # Forgetting the layout, it is written as if made in Python.
    gpt2jax.save(loaded.replace(layout=None), tmp_path / "ours")
    states = [GPT2LMHeadModel.from_pretrained(tmp_path / side).state_dict() for side in ("theirs", "ours")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    configs = [GPT2LMHeadModel.from_pretrained(tmp_path / side).config for side in ("theirs", "ours")]
    for key in ("n_inner", "activation_function", "layer_norm_epsilon", "tie_word_embeddings", "n_positions"):
        assert getattr(configs[0], key) == getattr(configs[1], key)
