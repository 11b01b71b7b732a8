"""The bundled tokenizer: whole words, nothing lost, files that the library reads back."""

from __future__ import annotations

from random import Random

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from gpt2jax import GPT2Config, Tokenizer
from svdtrace.prompts import language
from weights_tools.training.vocabulary import language_tokenizer, learn_merges


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return language_tokenizer()


def test_every_word_is_one_token(tokenizer: Tokenizer):
    for word in language.surface_words():
        assert tokenizer.token_id(word) is not None, word


def test_texts_of_the_language_are_words_alone(tokenizer: Tokenizer):
    known = set(language.surface_words())
    random, words = Random(0), language.Words()
    for _ in range(300):
        text = language.document(random, words).text
        assert set(tokenizer.strings(tokenizer.encode(text))) <= known


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_comes_back(tokenizer: Tokenizer, text: str):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_its_size_and_its_end_of_text(tokenizer: Tokenizer):
    assert 700 <= tokenizer.d_vocab <= 1500
    assert tokenizer.encode("<|endoftext|>") == [tokenizer.d_vocab - 1] == [tokenizer.bos_token_id]


def test_what_is_saved_is_read_back(tokenizer: Tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    config = GPT2Config(n_layers=1, n_heads=1, d_model=1, d_mlp=1, n_ctx=8, d_vocab=tokenizer.d_vocab)
    text = language.ioi(1, tokenizer)[0].text
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.encode(text).ids == tokenizer.encode(text)
    assert library.decode(library.encode(text).ids) == text
    again = Tokenizer.read(tmp_path, config)
    assert again is not None
    assert again.encode(text) == tokenizer.encode(text)


@pytest.mark.parametrize(
    ("words", "merges"),
    [
        (["ab", "abc"], [("a", "b"), ("ab", "c")]),
        (["aaaa"], [("a", "a"), ("aa", "aa")]),
        (["x"], []),
    ],
)
def test_merges_are_learnt_most_frequent_first(words, merges):
    assert learn_merges(words) == merges
