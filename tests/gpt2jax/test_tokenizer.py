"""Text, ids, token strings and offsets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from checkpoints.folders import CONFIG
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

from gpt2jax import GPT2Config, Tokenizer
from gpt2jax.errors import TokenizerError

SENTENCES = ["When Mary and John went to the store, John gave a drink to Mary.", "Ünïcode’s naïve 🤗 x"] * 4
ALPHABET = pre_tokenizers.ByteLevel.alphabet()


def byte_level(alphabet: list[str] | None = None, prefix: bool = False) -> tokenizers.Tokenizer:
    """A small byte-level BPE with an automatic beginning-of-text token, padding and truncation, all to be ignored."""
    library = tokenizers.Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    library.decoder = decoders.ByteLevel()
    special = [AddedToken("<|endoftext|>", special=True)]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=special,
        initial_alphabet=ALPHABET if alphabet is None else alphabet,
        show_progress=False,
    )
    library.train_from_iterator(SENTENCES if alphabet is None else ["ab ba"], trainer)
    library.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    library.enable_padding(length=50)
    library.enable_truncation(5)
    return library


CONFIGURATION = replace(GPT2Config.from_hf(CONFIG), d_vocab=400, bos_token_id=None)


def read(folder: Path, library: tokenizers.Tokenizer, config: GPT2Config = CONFIGURATION) -> Tokenizer:
    library.save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer.read(folder, config)
    assert tokenizer is not None
    return tokenizer


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return read(tmp_path_factory.mktemp("tokenizer"), byte_level())


@pytest.fixture(scope="module")
def gpt2(shared: Path) -> Tokenizer:
    config = GPT2Config.from_hf(json.loads((shared / "gpt2" / "config.json").read_text()))
    tokenizer = Tokenizer.read(shared / "gpt2", config)
    assert tokenizer is not None
    return tokenizer


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(text=TEXTS)
def test_decode_is_the_inverse_of_encode(small: Tokenizer, text: str):
    assert small.decode(small.encode(text)) == text


@given(text=TEXTS)
def test_strings_are_the_text_piece_by_piece(small: Tokenizer, text: str):
    ids, offsets = small.encode_with_offsets(text)
    assert ids == small.encode(text)
    assert len(ids) == len(offsets)
    for string, (start, end) in zip(small.strings(ids), offsets, strict=True):
        assert 0 <= start < end <= len(text)
        # A token that is a part of a character shows its bytes and stands where the character does.
        assert string == text[start:end] or ("\\x" in string and not text[start:end].isascii())
    covered = {place for start, end in offsets for place in range(start, end)}
    assert covered == set(range(len(text)))


def test_nothing_is_added_nor_cut(small: Tokenizer):
    text = SENTENCES[0]
    assert "".join(small.strings(small.encode(text))) == text
    assert small.bos_token_id == 0
    assert small.bos_token_id not in small.encode(text)


def test_special_tokens_written_out(small: Tokenizer):
    ids, offsets = small.encode_with_offsets("a<|endoftext|>b")
    assert ids[1] == 0
    assert offsets == [(0, 1), (1, 14), (14, 15)]
    assert small.decode(ids) == "a<|endoftext|>b"
    assert small.strings(ids) == ["a", "<|endoftext|>", "b"]


def test_token_id_of_exactly_one_token(small: Tokenizer):
    (mary,) = small.encode(" Mary")
    assert small.token_id(" Mary") == mary
    assert small.token_id(" Mary and") is None
    assert small.token_id("") is None
    assert small.token_id("\ud800") is None


def test_ids_without_a_token(small: Tokenizer):
    assert small.strings([399, -1]) == ["[399]", "[-1]"]
    for missing in (399, -1):
        with pytest.raises(TokenizerError, match=f"token id {missing}: the tokenizer has no such token"):
            small.decode([0, missing])


def test_prefix_space(tmp_path: Path):
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    tokenizer = read(tmp_path, byte_level(prefix=True))
    ids, offsets = tokenizer.encode_with_offsets("Mary gave")
    assert tokenizer.strings(ids) == [" Mary", " gave"]
    assert offsets == [(0, 4), (4, 9)]


def test_offsets_keep_the_space_whatever_the_post_processor(tmp_path: Path, small: Tokenizer):
    library = byte_level()
    library.post_processor = processors.ByteLevel(trim_offsets=True)
    assert read(tmp_path, library).encode_with_offsets("a Mary") == small.encode_with_offsets("a Mary")
    assert small.encode_with_offsets("a Mary")[1] == [(0, 1), (1, 6)]


def test_added_tokens_are_plain_text(tmp_path: Path):
    library = byte_level()
    library.add_tokens(["<é>"])
    tokenizer = read(tmp_path, library)
    assert tokenizer.strings(tokenizer.encode("a<é>")) == ["a", "<é>"]


def test_beginning_of_text_token(tmp_path: Path):
    assert read(tmp_path, byte_level(), replace(CONFIGURATION, bos_token_id=7)).bos_token_id == 7


def test_equal_if_read_alike(tmp_path: Path, small: Tokenizer):
    again = read(tmp_path, byte_level())
    assert again == small
    assert hash(again) == hash(small)
    assert read(tmp_path, byte_level(), replace(CONFIGURATION, d_vocab=500)) != small
    assert small != "small"


@pytest.mark.parametrize(
    ("text", "config", "expected"),
    [
        ("aéb", CONFIGURATION, "text 'aéb' character 2: the tokenizer has no token for 'é'"),
        ("ab<|endoftext|>é", CONFIGURATION, "character 16: the tokenizer has no token for 'é'"),
        ("a\ud800", CONFIGURATION, "not a text that UTF-8 can write"),
        ("ab", replace(CONFIGURATION, d_vocab=2), "but the model's vocabulary has 2"),
    ],
)
def test_texts_that_cannot_be_encoded(tmp_path: Path, text: str, config: GPT2Config, expected: str):
    tokenizer = read(tmp_path, byte_level(alphabet=["a", "b"]), config)
    with pytest.raises(TokenizerError) as caught:
        tokenizer.encode(text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_special_tokens_may_lie_outside_the_alphabet(tmp_path: Path):
    assert read(tmp_path, byte_level(alphabet=["a", "b"])).encode("<|endoftext|>") == [0]


def test_words_instead_of_bytes(tmp_path: Path):
    library = tokenizers.Tokenizer(models.WordLevel({"[unk]": 0, "Mary": 1, "ran": 2}, unk_token="[unk]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = read(tmp_path, library)
    ids, offsets = tokenizer.encode_with_offsets("Mary ran far")
    assert (ids, offsets) == ([1, 2, 0], [(0, 4), (5, 8), (9, 12)])
    assert tokenizer.strings(ids) == ["Mary", "ran", "[unk]"]


def test_words_that_become_the_token_of_all_unknown_words_are_named(tmp_path: Path, small: Tokenizer):
    """Catches words that a model cannot tell apart and nobody hears of; the token's own name is none of them."""
    library = tokenizers.Tokenizer(models.WordLevel({"0": 0, "Mary": 1, "ran": 2}, unk_token="0"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = read(tmp_path, library)
    assert tokenizer.unknown_words("Mary ran 0 far very far") == ["far", "very", "far"]
    assert small.unknown_words(SENTENCES[0]) == []


class TestFiles:
    """Which files make a tokenizer, and what is wrong with them."""

    def test_none(self, tmp_path: Path):
        assert Tokenizer.read(tmp_path, CONFIGURATION) is None

    def test_vocabulary_and_merges_alone(self, tmp_path: Path, small: Tokenizer):
        spec = json.loads(byte_level().to_str())["model"]
        merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in spec["merges"]), ""])
        (tmp_path / "vocab.json").write_text(json.dumps(spec["vocab"]))
        (tmp_path / "merges.txt").write_text(merges)
        tokenizer = Tokenizer.read(tmp_path, CONFIGURATION)
        assert tokenizer is not None
        text = SENTENCES[0] + SENTENCES[1] + "<|endoftext|>"
        assert tokenizer.encode_with_offsets(text) == small.encode_with_offsets(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert tokenizer.bos_token_id == 0
        (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
        prefixing = Tokenizer.read(tmp_path, CONFIGURATION)
        assert prefixing is not None
        assert prefixing.encode("Mary") == small.encode(" Mary")

    def test_save_writes_the_files_as_read(self, tmp_path: Path):
        (tmp_path / "tokenizer_config.json").write_text('{ "odd" :  1}')
        tokenizer = read(tmp_path, byte_level())
        (tmp_path / "again").mkdir()
        tokenizer.save(tmp_path / "again")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
        assert Tokenizer.read(tmp_path / "again", CONFIGURATION) == tokenizer

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({"vocab.json": "{}"}, "lacks merges.txt"),
            ({"merges.txt": ""}, "lacks vocab.json"),
            ({"tokenizer.json": '{\n"version": '}, "tokenizer.json line 2: not JSON"),
            ({"tokenizer.json": "[1]"}, "tokenizer.json: expected a JSON object, found a list"),
            ({"tokenizer.json": "[" * 100_000}, "tokenizer.json"),
            ({"tokenizer.json": '{"model": 5, "pre_tokenizer": []}'}, "tokenizer.json: no tokenizer that can be read"),
            ({"tokenizer.json": '{"added_tokens": {}, "model": {}}'}, "tokenizer.json: no tokenizer that can be read"),
            ({"tokenizer.json": '{"added_tokens": [{"id": 0}]}'}, "added_tokens: content is None"),
            ({"tokenizer.json": '{"added_tokens": [{"id": "a", "content": "b"}]}'}, "'a' is no token id"),
            ({"tokenizer.json": '{"model": {"type": "BPE", "vocab": {"a": 5e9}, "merges": []}}'}, "tokenizer.json: no"),
            ({"tokenizer.json": '{"version": "1.0"}'}, "tokenizer.json: no tokenizer that can be read"),
            ({"vocab.json": "[", "merges.txt": ""}, "vocab.json line 1: not JSON"),
            ({"vocab.json": '{"a": 0}', "merges.txt": "a b c"}, "merges.txt: no tokenizer that can be read"),
            ({"vocab.json": '{"a": 0}', "merges.txt": "a b"}, "merges.txt: no tokenizer that can be read"),
        ],
    )
    def test_damaged(self, tmp_path: Path, files: dict[str, str], expected: str):
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        with pytest.raises(TokenizerError) as caught:
            Tokenizer.read(tmp_path, CONFIGURATION)
        message = str(caught.value)
        assert message.startswith(str(tmp_path))
        assert expected in message
        assert "\n" not in message


class TestGPT2:
    """GPT-2's own tokenizer."""

    def test_known_ids(self, gpt2: Tokenizer):
        # The paper's first prompts begin "When Mary"; " Mary" and the end-of-text token are known numbers.
        assert gpt2.encode("When Mary") == [2215, 5335]
        assert gpt2.token_id(" Mary") == 5335
        assert gpt2.bos_token_id == gpt2.token_id("<|endoftext|>") == 50256
        assert gpt2.d_vocab == 50257

    def test_every_token_looks_different(self, gpt2: Tokenizer):
        assert len(set(gpt2.strings(range(50257)))) == 50257

    def test_parts_of_characters(self, gpt2: Tokenizer):
        ids, offsets = gpt2.encode_with_offsets("Mary’s 🤗")
        expected = ["Mary", "\\xe2\\x80", "\\x99", "s", " \\xf0\\x9f", "\\xa4", "\\x97"]
        assert gpt2.strings(ids) == expected
        assert offsets == [(0, 4), (4, 5), (4, 5), (5, 6), (6, 8), (7, 8), (7, 8)]

    def test_either_kind_of_files(self, gpt2: Tokenizer, shared: Path, tmp_path: Path):
        for name in ("vocab.json", "merges.txt"):
            (tmp_path / name).write_bytes((shared / "gpt2" / name).read_bytes())
        other = Tokenizer.read(tmp_path, replace(CONFIGURATION, d_vocab=50257))
        assert other is not None
        text = " ".join(SENTENCES) + "\n\n  def f(x):\n\treturn 12345 <|endoftext|>"
        assert other.encode_with_offsets(text) == gpt2.encode_with_offsets(text)
        assert other.bos_token_id == 50256
