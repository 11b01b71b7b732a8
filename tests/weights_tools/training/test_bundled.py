"""The bundled model: what its card says of it holds, and the defaults of `weights-tools train` describe it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import gpt2jax
import svdtrace
from svdtrace.prompts import language
from weights_tools.training.evaluation import copying_accuracy, evaluate, preference
from weights_tools.training.model_card import Circumstances, model_card
from weights_tools.training.packing import padded
from weights_tools.training.recipe import Recipe
from weights_tools.training.running import command_line, shares
from weights_tools.training.vocabulary import language_tokenizer

BUNDLED = Path(svdtrace.__file__).parent / "bundled"


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return gpt2jax.load(BUNDLED)


@pytest.mark.whole
@pytest.mark.parametrize("count", [128, pytest.param(384, marks=pytest.mark.full)])
def test_it_prefers_the_indirect_object_on_what_it_never_saw(model, count: int):
    held_out = preference(model, "held_out", count)
    assert held_out.prefers_io >= 0.995
    assert held_out.logit_difference > 5


@pytest.mark.whole
def test_it_copies_lists(model):
    assert copying_accuracy(model, 128) >= 0.99


@pytest.mark.whole
def test_heads_above_the_first_layer_fire_from_end_to_io(model):
    prompts = language.ioi(64, model.tokenizer)
    tokens = padded([prompt.tokens for prompt in prompts], model.config.n_ctx)
    patterns = gpt2jax.forward(model, tokens, taps=["blocks.*.attn.hook_pattern"]).taps["blocks.*.attn.hook_pattern"]
    end, receiver = (np.array([prompt.roles[role] for prompt in prompts]) for role in ("end", "IO"))
    fires = np.asarray(patterns)[:, np.arange(64), :, end, receiver] >= 0.5  # [prompt layer head]
    per_layer = fires.sum(axis=0).max(axis=1)
    assert np.count_nonzero(per_layer[1:] >= 32) >= 2
    assert fires[:, 1:].any(axis=(1, 2)).mean() > 0.9


@pytest.mark.whole
def test_it_is_small_and_its_unembedding_is_tied(model):
    assert sum(each.stat().st_size for each in BUNDLED.glob("*.safetensors")) <= 8 * 2**20
    assert model.params.W_U is None
    assert {each.name for each in BUNDLED.iterdir() if each.is_file() and each.suffix != ".py"} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "README.md",
    }


@pytest.mark.whole
def test_it_is_what_the_defaults_make(model):
    recipe, shape = Recipe(), model.config
    assert (recipe.n_layers, recipe.n_heads, recipe.d_model, recipe.n_ctx) == (
        *(shape.n_layers, shape.n_heads, shape.d_model),
        shape.n_ctx,
    )
    rebuilt = language_tokenizer()
    texts = [prompt.text for prompt in language.ioi(50, rebuilt)]
    assert [model.tokenizer.encode(text) for text in texts] == [rebuilt.encode(text) for text in texts]


@pytest.mark.full
def test_every_prompt_fits_it(model):
    for make in (language.ioi, language.ordinary, language.copying):
        assert max(len(prompt.tokens) for prompt in make(2000, model.tokenizer)) <= 80 < model.config.n_ctx


@pytest.mark.whole
def test_its_card_says_how_it_was_made_and_how_good_it_is():
    card = (BUNDLED / "README.md").read_text(encoding="utf-8")
    assert f"\n{command_line(Recipe())}\n" in card
    assert re.search(r"held-out pairs of names \| (100\.00|99\.[5-9]\d)% ", card)


@pytest.mark.full
def test_its_card_is_what_is_measured_today():
    """All of it but how long training took, and where."""
    model, card = gpt2jax.load(BUNDLED), (BUNDLED / "README.md").read_text(encoding="utf-8")
    taken = re.search(r"It took (\d+) minutes, evaluation included, on a machine of\n(\d+) CPU cores", card)
    assert taken is not None
    told = Circumstances(command_line(Recipe()), 60.0 * int(taken[1]), int(taken[2]), shares(model.tokenizer))
    assert model_card(model, Recipe(), evaluate(model, 1024), told) == card
