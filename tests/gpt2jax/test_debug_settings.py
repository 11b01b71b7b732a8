"""Everything runs where JAX is told to refuse NaNs and broadcasting that is not spelled out."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_model import jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax.edits import add, on_head, on_pattern_head, on_token, replace, scale, zero
from gpt2jax.sites import BLOCK_SITES, STEM_SITES

pytestmark = pytest.mark.whole

PARAMS, SHAPE = small_model(seed=3)
TOKENS = random_tokens(3, 5, SHAPE)
# A full prompt, one padded on the right, one on the left: its first destinations may attend to nothing.
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]], bool)
TAPS = (*STEM_SITES, *(f"blocks.*.{site}" for site in BLOCK_SITES), "blocks.1.attn.hook_z")


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with jax.debug_nans(True), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(params=["raw", "folded"])
def model(request: pytest.FixtureRequest) -> gpt2jax.Model:
    raw = jax_model(PARAMS, SHAPE)
    return raw if request.param == "raw" else gpt2jax.fold(raw)


def test_the_settings_bite():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)
    with pytest.raises(FloatingPointError):
        jnp.zeros(1) / jnp.zeros(1)


def test_padded_batches_with_all_taps(model: gpt2jax.Model):
    out = gpt2jax.forward(model, TOKENS, mask=MASK, taps=TAPS)
    assert np.isfinite(out.logits).all()
    assert out.taps.keys() == set(TAPS)


def test_hooks(model: gpt2jax.Model):
    d = model.config.d_model
    hooks = {
        "hook_embed": on_token(1, scale(2.0)),
        "blocks.0.hook_resid_post": add(np.ones(d, np.float32)),
        "blocks.0.ln2.hook_normalized": scale(np.ones(d, np.float32)),
        "blocks.*.attn.hook_pattern": on_pattern_head(0, scale(0.5)),
        "blocks.1.attn.hook_z": on_head(1, zero()),
        "blocks.1.hook_attn_out": replace(np.zeros(d, np.float32)),
    }
    assert np.isfinite(gpt2jax.forward(model, TOKENS, mask=MASK, hooks=hooks).logits).all()


def test_contributions_and_their_effects(model: gpt2jax.Model):
    parts = gpt2jax.residual_contributions(model, TOKENS, mask=MASK)
    for answer, distractor in ((0, 1), (np.array([0, 1, 2], np.int32), np.array([1, 2, 0], np.int32))):
        answer, distractor = np.asarray(answer, np.int32), np.asarray(distractor, np.int32)
        direction = gpt2jax.logit_direction(model, answer, distractor)
        effects, constant = gpt2jax.logit_effects(model, parts, direction)
        assert np.isfinite(effects).all()
        assert np.isfinite(constant).all()


def test_sampling(model: gpt2jax.Model):
    found = gpt2jax.generate(model, TOKENS, 1, temperature=1.0, key=jax.random.key(0))
    assert found.shape == (3, 6)


def test_gradients():
    model = jax_model(PARAMS, SHAPE)

    def total(params: gpt2jax.Params) -> jax.Array:
        return jnp.sum(gpt2jax.forward(model.replace(params=params), TOKENS, mask=MASK).logits)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(total)(model.params)))
