"""Training: rows, loss and a few updates on a tiny model."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from random import Random

import jax
import numpy as np
import pytest

import gpt2jax
from gpt2jax.errors import InputError
from svdtrace.prompts import language
from weights_tools.training.packing import Rows, packed_rows, padded
from weights_tools.training.recipe import Recipe
from weights_tools.training.updates import next_token_loss, start, train
from weights_tools.training.vocabulary import language_tokenizer

TINY = Recipe(steps=5, rows=4, n_layers=1, n_heads=2, d_model=8, n_ctx=32, warm_up=1, learning_rate=1e-2)
tokenizer = cache(language_tokenizer)


def rows_of(seed: int, shape: tuple[int, int]) -> Rows:
    return packed_rows(partial(language.document, Random(seed), language.Words()), tokenizer(), shape)


@pytest.mark.whole
def test_a_few_updates_lower_the_loss_and_are_reported():
    losses = []
    model = train(replace(TINY, steps=25), lambda step, loss, model: losses.append((step, loss)))
    assert [step for step, _ in losses] == list(range(1, 26))
    assert np.mean([loss for _, loss in losses[-5:]]) < losses[0][1] - 0.1
    assert model.tokenizer == tokenizer()


@pytest.mark.full
def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    first, again, other = (train(replace(TINY, seed=seed)) for seed in (1, 1, 2))
    for left, right in zip(jax.tree.leaves(first.params), jax.tree.leaves(again.params), strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(first.params.W_E, other.params.W_E)


@pytest.mark.whole
def test_all_parameters_are_trained():
    before, after = start(TINY, tokenizer()), train(TINY)
    for (path, left), right in zip(
        jax.tree_util.tree_leaves_with_path(before.params), jax.tree.leaves(after.params), strict=True
    ):
        assert not np.array_equal(left, right), path


def test_rows_hold_whole_texts_one_after_another():
    rows = rows_of(0, (8, 96))
    random, words = Random(0), language.Words()
    for tokens, positions, text in zip(rows.tokens, rows.positions, rows.text, strict=True):
        place = 0
        while place < len(tokens):
            document = language.document(random, words)
            ids = [*tokenizer().encode(document.text), tokenizer().bos_token_id]
            end = min(place + len(ids), len(tokens))
            assert list(tokens[place:end]) == ids[: end - place]
            runs_on = text[-1] == 0
            assert list(positions[place:end]) == list(range(place, end) if runs_on else range(end - place))
            assert len(set(text[place:end])) == 1
            place = end
    assert sum(text[-1] == 0 for text in rows.text) == 2


def test_determined_tokens_are_the_words_that_documents_name():
    rows = rows_of(3, (6, 96))
    random, words = Random(3), language.Words()
    said: list[str] = []
    while len(said) < 10:
        document = language.document(random, words)
        said += [document.text[start:end] for start, end in document.determined]
    marked = [each.strip() for each in tokenizer().strings(rows.tokens[rows.determined > 0].tolist())]
    assert marked[:5] == said[:5]


@pytest.mark.whole
def test_a_text_that_stands_alone_has_the_loss_of_itself_alone():
    """Block-wise attention and restarted positions: packed texts are as if each were a prompt by itself."""
    model = start(TINY, tokenizer())
    texts = [
        [*ids, tokenizer().bos_token_id]
        for ids in (tokenizer().encode("The sky was grey."), tokenizer().encode("Then,"))
    ]
    packed = np.array([texts[0] + texts[1]], np.int32)
    lengths = [len(each) for each in texts]
    rows = Rows(
        packed,
        np.array([[*range(lengths[0]), *range(lengths[1])]], np.int32),
        np.array([[0] * lengths[0] + [1] * lengths[1]], np.int32),
        np.zeros(packed.shape, np.float32),
    )

    def loss(ids: list[int], following: list[int]) -> float:
        logits = np.asarray(gpt2jax.forward(model, np.array([ids], np.int32)).logits[0], np.float64)
        log_z = np.log(np.sum(np.exp(logits), axis=1))
        return float(sum(log_z[place] - logits[place, token] for place, token in enumerate(following)))

    total = loss(texts[0], [*texts[0][1:], texts[1][0]]) + loss(texts[1], texts[1][1:])
    expected = total / (sum(lengths) - 1)
    bound = 1e3 * float(np.finfo(np.float32).eps) * expected  # some hundred float32 operations from embedding to loss
    assert float(next_token_loss(model, rows, 3.0)) == pytest.approx(expected, abs=bound)


@pytest.mark.whole
def test_emphasis_weighs_determined_tokens():
    model = start(TINY, tokenizer())
    rows = rows_of(0, (4, 32))
    ones, nones = (rows._replace(determined=np.full(rows.tokens.shape, each, np.float32)) for each in (1, 0))
    marked = float(next_token_loss(model, rows, 1e6))
    uniform = float(next_token_loss(model, nones, 1e6))
    assert float(next_token_loss(model, ones, 7.0)) == pytest.approx(uniform, rel=1e-6)
    assert marked != pytest.approx(uniform, rel=1e-6)
    assert float(next_token_loss(model, rows, 0.0)) == pytest.approx(uniform, rel=1e-6)


def test_padding_is_on_the_right():
    np.testing.assert_array_equal(padded([(1, 2, 3), (4,)], 4), [[1, 2, 3, 0], [4, 0, 0, 0]])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps is 0; give more than 0"),
        ({"n_ctx": 1}, "n_ctx is 1"),
        ({"d_model": 10, "n_heads": 4}, "d_model 10 is not a multiple of n_heads 4"),
    ],
)
def test_a_recipe_that_makes_no_model_is_refused(setting, message):
    with pytest.raises(InputError, match=message):
        Recipe(**setting)
