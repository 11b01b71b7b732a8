"""Models that others trained, as they published them: activations, behaviour, oddities."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import gpt2jax

# Their author computed in float32 with PyTorch.
TOLERANCE = 5e-6
# Which key of the publication is which value of ours, and at which layer: those of the first block, unless named so.
BLOCK = "blocks.0"
PUBLISHED = {
    "tok_emb": "hook_embed",
    "pos_emb": "hook_pos_embed",
    "x": f"{BLOCK}.hook_resid_pre",
    "q": f"{BLOCK}.attn.hook_q",
    "k": f"{BLOCK}.attn.hook_k",
    "v": f"{BLOCK}.attn.hook_v",
    "att": f"{BLOCK}.attn.hook_attn_scores",
    "attSm": f"{BLOCK}.attn.hook_pattern",
    "y": f"{BLOCK}.attn.hook_z",
    "yProj": f"{BLOCK}.hook_attn_out",
    "attnResid": f"{BLOCK}.hook_resid_mid",
    "fc": f"{BLOCK}.mlp.hook_pre",
    "gelu": f"{BLOCK}.mlp.hook_post",
    "mlp": f"{BLOCK}.hook_mlp_out",
    "mlpResid": f"{BLOCK}.hook_resid_post",
    "block0": "blocks.0.hook_resid_post",
    "block1": "blocks.1.hook_resid_post",
    "block2": "blocks.2.hook_resid_post",
}
# LayerNorm's output with gain and bias, q, k and v side by side, and what comes after the last block, are put together.
COMPOSED = {"ln1", "qkv", "ln2", "ln_f", "lm_head", "probs"}
INPUTS = {"config", "idx"}


@pytest.fixture(scope="module")
def strangers(shared: Path) -> Path:
    folder = shared / "models"
    if not folder.is_dir():
        pytest.skip("needs ../shared/models, models that others trained")
    return folder


@pytest.fixture(scope="module")
def published(strangers: Path) -> dict[str, np.ndarray]:
    content = json.loads((strangers / "nano_sort" / "published-activations.json").read_text())
    return {
        name: np.frombuffer(base64.b64decode(each["data"]), np.float32).reshape(each["shape"])
        for name, each in content.items()
        if name != "config"
    }


@pytest.fixture(scope="module")
def ours(strangers: Path, published: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Our values under the publication's names and in its axes."""
    model = gpt2jax.load(strangers / "nano_sort")
    taps = [*PUBLISHED.values(), "blocks.0.ln1.hook_normalized", "blocks.0.ln2.hook_normalized"]
    out = gpt2jax.forward(model, published["idx"].astype(np.int32), taps=[*taps, "ln_final.hook_normalized"])
    found = {name: np.asarray(out.taps[tap]) for name, tap in PUBLISHED.items()}
    found |= {"ln1": out.taps[taps[-2]], "ln2": out.taps[taps[-1]], "ln_f": out.taps["ln_final.hook_normalized"]}
    merged = {name: found[name].reshape(*found[name].shape[:2], -1) for name in ("q", "k", "v", "y")}
    found |= {"y": merged["y"], "qkv": np.concatenate([merged[name] for name in "qkv"], axis=-1)}
    found |= {name: found[name].swapaxes(1, 2) for name in "qkv"}
    found["pos_emb"] = found["pos_emb"][:1]
    return found | {"lm_head": np.asarray(out.logits), "probs": np.asarray(jax.nn.softmax(out.logits))}


def test_every_published_activation_is_compared(published: dict[str, np.ndarray], ours: dict[str, np.ndarray]):
    assert published.keys() | INPUTS == PUBLISHED.keys() | COMPOSED | INPUTS
    assert ours.keys() == published.keys() - INPUTS


@pytest.mark.parametrize("name", [*PUBLISHED, *sorted(COMPOSED)])
def test_activations_as_published(published: dict[str, np.ndarray], ours: dict[str, np.ndarray], name: str):
    assert ours[name].shape == published[name].shape
    np.testing.assert_allclose(ours[name], published[name], rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def sort1head(strangers: Path) -> gpt2jax.Model:
    """One head that sorts, three that are zero."""
    return gpt2jax.load(strangers / "sort1head")


class TestSort1Head:
    def test_it_sorts(self, sort1head: gpt2jax.Model):
        numbers = np.random.default_rng(0).permuted(np.tile(np.arange(64), (50, 1)), axis=1)[:, :5]
        ordered = np.sort(numbers, axis=1)
        start, middle = np.full((50, 1), 64), np.full((50, 1), 65)
        tokens = np.concatenate([start, numbers, middle, ordered], axis=1).astype(np.int32)
        logits = np.asarray(gpt2jax.forward(sort1head, tokens).logits)
        np.testing.assert_array_equal(np.argmax(logits[:, 6:11], axis=-1), ordered)

    @pytest.mark.parametrize("processing", ["raw", "folded"])
    def test_zero_heads_have_no_effect_at_all(self, sort1head: gpt2jax.Model, processing: str):
        model = sort1head if processing == "raw" else gpt2jax.fold(sort1head)
        tokens = np.array([[64, 9, 3, 60, 1, 30, 65, 1, 3, 9, 30, 60]], np.int32)
        parts = gpt2jax.residual_contributions(model, tokens)
        zero_heads = [parts.labels.index(f"0.{head}") for head in (1, 2, 3)]
        assert not np.asarray(parts.values)[:, zero_heads].any()
        assert np.asarray(parts.values)[:, parts.labels.index("0.0")].any()


def test_a_beginning_of_text_above_the_vocabulary(strangers: Path):
    model = gpt2jax.load(strangers / "capp_gpt")
    assert json.loads((strangers / "capp_gpt" / "config.json").read_text())["bos_token_id"] >= model.config.d_vocab
    assert model.config.bos_token_id is None
    assert model.config.eos_token_id == 51
    assert model.tokenizer is not None
    logits = gpt2jax.forward(model, np.array([[1, 2, 3]], np.int32)).logits
    assert np.isfinite(logits).all()
