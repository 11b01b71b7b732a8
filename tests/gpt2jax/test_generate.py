"""Generation: greedy is the argmax, sampling follows the probabilities."""

from __future__ import annotations

import jax
import numpy as np
import oracle
import pytest
from small_model import Arrays, jax_model, random_tokens, small_model

import gpt2jax
from gpt2jax.errors import InputError

N_DRAWS = 4000


@pytest.fixture(scope="module")
def small() -> tuple[Arrays, dict, gpt2jax.Model]:
    params, config = small_model(seed=41, tied=True)
    return params, config, jax_model(params, config)


def test_greedy_takes_the_most_likely_token_at_every_step(small: tuple) -> None:
    params, config, model = small
    tokens = random_tokens(3, 4, config)
    found = np.asarray(gpt2jax.generate(model, tokens, 5))
    assert found.shape == (3, 9)
    assert np.array_equal(found[:, :4], tokens)
    for prompt in found:
        for end in range(4, 9):
            logits = oracle.forward(params, config, prompt[:end])["logits"][-1]
            assert prompt[end] == np.argmax(logits)
            second, first = np.sort(logits)[-2:]
            assert first - second > 1e-3  # else rounding could decide
    assert len({tuple(prompt[4:]) for prompt in found}) > 1


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_samples_have_the_models_probabilities(small: tuple, temperature: float) -> None:
    """Each token's share is within five standard deviations of its probability at that temperature."""
    params, config, model = small
    prompt = random_tokens(1, 4, config)[0]
    key = jax.random.key(1)
    tokens = np.tile(prompt, (N_DRAWS, 1))
    found = np.asarray(gpt2jax.generate(model, tokens, 1, temperature=temperature, key=key))
    logits = oracle.forward(params, config, prompt)["logits"][-1] / temperature
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    share = np.bincount(found[:, -1], minlength=config["d_vocab"]) / N_DRAWS
    assert np.all(np.abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / N_DRAWS) + 1 / N_DRAWS)
    again = gpt2jax.generate(model, tokens, 1, temperature=temperature, key=key)
    assert np.array_equal(found, again)
    other = gpt2jax.generate(model, tokens, 1, temperature=temperature, key=jax.random.key(2))
    assert not np.array_equal(found, other)


def test_draws_are_independent_of_each_other(small: tuple) -> None:
    """Where all tokens are equally likely, the first drawn equals the second in one of d_vocab prompts."""
    _, config, model = small
    model = model.replace(params=jax.tree.map(lambda array: 0 * array, model.params))
    tokens, chance = np.zeros((N_DRAWS, 1), np.int32), 1 / config["d_vocab"]
    drawn = np.asarray(gpt2jax.generate(model, tokens, 3, temperature=1.0, key=jax.random.key(3)))[:, 1:]
    deviation = 5 * np.sqrt(chance * (1 - chance) / N_DRAWS)
    for left, right in ((0, 1), (1, 2), (0, 2)):
        assert abs(np.mean(drawn[:, left] == drawn[:, right]) - chance) <= deviation
    assert abs(np.mean(drawn[:-1, 0] == drawn[1:, 0]) - chance) <= deviation


def test_what_cannot_be_generated(small: tuple) -> None:
    _, config, model = small
    tokens = random_tokens(1, 10, config)
    assert np.array_equal(gpt2jax.generate(model, tokens, 0), tokens)
    for n_new, more, words in [
        (7, {}, r"10 \+ 7 tokens, but the model reads at most 16"),
        (-1, {}, r"10 \+ -1 tokens"),
        (1, {"temperature": 1.0}, "temperature is 1.0; give 0, or a positive value and key="),
        (1, {"temperature": -1.0, "key": jax.random.key(0)}, "temperature is -1.0"),
    ]:
        with pytest.raises(InputError, match=words):
            gpt2jax.generate(model, tokens, n_new, **more)
    with pytest.raises(InputError, match="token id 23 is outside"):
        gpt2jax.generate(model, np.full((1, 2), 23, np.int32), 1)
