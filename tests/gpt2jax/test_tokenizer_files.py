"""What stands beside a vocabulary is followed, or refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from checkpoints.folders import CONFIG
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from gpt2jax import GPT2Config, Tokenizer
from gpt2jax.errors import TokenizerError
from gpt2jax.tokenizer import UnreadTokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
WORDS = ["Mary", "ĠMary", "Ġand"]
VOCABULARY = {
    token: number for number, token in enumerate(["<|endoftext|>", *ALPHABET, "Ma", "ry", "Ġa", "nd", *WORDS])
}
MERGES = [("M", "a"), ("r", "y"), ("Ma", "ry"), ("Ġ", "Mary"), ("Ġ", "a"), ("n", "d"), ("Ġa", "nd")]
N = len(VOCABULARY)
CONFIGURATION = replace(GPT2Config.from_hf(CONFIG), d_vocab=N + 8, bos_token_id=None)
PAIR: dict[str, Any] = {
    "vocab.json": VOCABULARY,
    "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, MERGES), ""]),
}
GPT2 = {"tokenizer_class": "GPT2Tokenizer"}


def byte_level(prefix: bool = False) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(models.BPE(VOCABULARY, MERGES))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    library.decoder = decoders.ByteLevel()
    return library


def file(library: tokenizers.Tokenizer) -> dict[str, Any]:
    return {"tokenizer.json": json.loads(library.to_str())}


def read(folder: Path, files: dict[str, Any], config: GPT2Config = CONFIGURATION) -> Tokenizer:
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    tokenizer = Tokenizer.read(folder, config)
    assert tokenizer is not None
    return tokenizer


def flags(content: str, **changed: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": content, **plain, **changed}


class TestAddedTokens:
    """Tokens that stand outside the vocabulary."""

    @pytest.mark.parametrize(
        "beside",
        [
            {"added_tokens.json": {"<user>": N}},
            {"tokenizer_config.json": {"added_tokens_decoder": {str(N): {**flags("<user>"), "special": True}}}},
            {"tokenizer_config.json": {"bos_token": "<user>"}},
            {"tokenizer_config.json": {"image_token": "<user>"}},
            {"tokenizer_config.json": {"unk_token": {"__type": "AddedToken", **flags("<user>")}}},
            {"tokenizer_config.json": {"extra_special_tokens": {"image_token": "<user>"}}},
            {"special_tokens_map.json": {"pad_token": "<user>"}},
            {"special_tokens_map.json": {"eos_token": flags("<user>")}},
            {"special_tokens_map.json": {"additional_special_tokens": ["<user>"]}},
            {"special_tokens_map.json": {"additional_special_tokens": [flags("<user>")]}},
        ],
    )
    @pytest.mark.parametrize("vocabulary", [PAIR, file(byte_level())], ids=["pair", "json"])
    def test_wherever_they_stand(self, tmp_path: Path, vocabulary: dict[str, Any], beside: dict[str, Any]):
        tokenizer = read(tmp_path, vocabulary | beside)
        ids, offsets = tokenizer.encode_with_offsets("<user> Mary")
        assert (ids, offsets) == ([N, VOCABULARY["ĠMary"]], [(0, 6), (6, 11)])
        assert tokenizer.strings(ids) == ["<user>", " Mary"]

    @pytest.mark.parametrize(
        ("flag", "text", "offsets"),
        [
            ("lstrip", "and  <u> Mary", [(0, 1), (1, 3), (3, 8), (8, 13)]),
            ("rstrip", "<u>  Mary", [(0, 5), (5, 9)]),
            ("single_word", "a<u>", [(0, 1), (1, 2), (2, 3), (3, 4)]),
        ],
    )
    def test_flags_of_the_settings_count(self, tmp_path: Path, flag: str, text: str, offsets: list[tuple[int, int]]):
        library = byte_level()
        library.add_special_tokens(["<u>"])
        beside = {"tokenizer_config.json": {**GPT2, "added_tokens_decoder": {str(N): flags("<u>", **{flag: True})}}}
        assert read(tmp_path, file(library) | beside).encode_with_offsets(text)[1] == offsets

    @pytest.mark.parametrize(
        ("beside", "expected"),
        [
            ({"added_tokens.json": {"<a>": N, "<b>": N + 2}}, f"'<b>' has the token id {N + 2}, but {N + 1} is"),
            ({"added_tokens.json": {"<a>": 5}}, f"'<a>' has the token id 5, but {N} is"),
            ({"added_tokens.json": {"<a>": "x"}}, "added_tokens.json: 'x' is no token id"),
            ({"tokenizer_config.json": {"bos_token": 5}}, "tokenizer_config.json: bos_token: found 5"),
            ({"tokenizer_config.json": {"bos_token": {"content": "<a>", "glue": True}}}, "bos_token: glue is True"),
            ({"tokenizer_config.json": {"added_tokens_decoder": []}}, "added_tokens_decoder: found []"),
            ({"tokenizer_config.json": {"added_tokens_decoder": {"1": "<a>x"}}}, "'<a>x' has the token id 1"),
            ({"special_tokens_map.json": {"additional_special_tokens": "<a>"}}, "expected a list of tokens"),
            ({"special_tokens_map.json": "[]"}, "special_tokens_map.json: expected a JSON object"),
            ({"tokenizer_config.json": {"add_prefix_space": "yes"}}, "add_prefix_space is 'yes', expected true or"),
            ({"tokenizer_config.json": {"tokenizer_class": ["x"]}}, "tokenizer_class is ['x'], expected a name"),
        ],
    )
    def test_refused_by_name(self, tmp_path: Path, beside: dict[str, Any], expected: str):
        with pytest.raises(TokenizerError) as caught:
            read(tmp_path, PAIR | beside)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["OpenAIGPTTokenizer", "CLIPTokenizerFast", "RobertaTokenizer", "T5Tokenizer"])
@pytest.mark.parametrize("where", ["tokenizer_config.json", "config.json"])
def test_pairs_of_other_classes(tmp_path: Path, name: str, where: str):
    with pytest.raises(TokenizerError, match=f"tokenizer_class is {name.removesuffix('Fast')}.*AutoTokenizer"):
        read(tmp_path, PAIR | {where: {"tokenizer_class": name}})


@pytest.mark.parametrize(
    ("vocabulary", "merges", "expected"),
    [
        ({"a": 0, "b</w>": 1, "ab</w>": 2}, "a b</w>", "mark the end of a word by </w>"),
        ({"▁": 0, "a": 1, "▁a": 2}, "▁ a", "hold '▁', which is no bytes"),
    ],
)
def test_pairs_of_other_spellings(tmp_path: Path, vocabulary: dict[str, int], merges: str, expected: str):
    with pytest.raises(TokenizerError, match=expected):
        read(tmp_path, {"vocab.json": vocabulary, "merges.txt": merges})


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("config", [True, False, None])
@pytest.mark.parametrize("klass", ["GPT2Tokenizer", None, "PreTrainedTokenizerFast"])
def test_prefix_space(tmp_path: Path, stated: bool, config: bool | None, klass: str | None):
    settings = {"add_prefix_space": config, "tokenizer_class": klass}
    tokenizer = read(tmp_path, file(byte_level(stated)) | {"tokenizer_config.json": settings})
    wanted = stated if klass == "PreTrainedTokenizerFast" else bool(config)
    assert tokenizer.strings(tokenizer.encode("Mary")) == ([" Mary"] if wanted else ["Mary"])
    differ = stated != wanted or (config is not None and config != wanted)
    assert len(tokenizer.notes) == differ
    assert all("add_prefix_space" in note and "counts" in note for note in tokenizer.notes)


class TestBeginningOfText:
    """The tokenizer's own declaration first, config.json second."""

    @pytest.mark.parametrize(
        ("beside", "bos", "expected"),
        [
            ({}, None, 0),
            ({}, 7, 7),
            ({"tokenizer_config.json": {"bos_token": "Mary"}}, None, VOCABULARY["Mary"]),
            ({"tokenizer_config.json": {"bos_token": "Mary"}}, 7, VOCABULARY["Mary"]),
            ({"tokenizer_config.json": GPT2}, 7, 0),
            ({"tokenizer_config.json": {**GPT2, "bos_token": None}}, 7, 0),
            ({"special_tokens_map.json": {"bos_token": flags("Mary")}}, 7, VOCABULARY["Mary"]),
            (
                {"tokenizer_config.json": {"bos_token": "ry"}, "special_tokens_map.json": {"bos_token": "Mary"}},
                None,
                VOCABULARY["Mary"],
            ),
        ],
    )
    def test_which(self, tmp_path: Path, beside: dict[str, Any], bos: int | None, expected: int):
        tokenizer = read(tmp_path, file(byte_level()) | beside, replace(CONFIGURATION, bos_token_id=bos))
        assert tokenizer.bos_token_id == expected
        differ = bos is not None and bos != expected
        assert [f"config.json with {bos}" in note for note in tokenizer.notes] == [True] * differ

    def test_beyond_the_vocabulary(self, tmp_path: Path):
        small = replace(CONFIGURATION, d_vocab=N)
        tokenizer = read(tmp_path, PAIR | {"tokenizer_config.json": {"bos_token": "<s>"}}, small)
        assert tokenizer.bos_token_id is None
        assert tokenizer.bos_lacking == f"the tokenizer's, '<s>', is token id {N}, beyond the model's vocabulary of {N}"

    def test_config_beyond_the_vocabulary(self, tmp_path: Path):
        library = tokenizers.Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
        tokenizer = read(tmp_path, file(library) | {"config.json": {"bos_token_id": 50256}})
        assert tokenizer.bos_token_id is None
        assert f"bos_token_id, 50256, lies beyond the model's vocabulary of {N + 8}" in tokenizer.bos_lacking

    def test_of_bert(self, tmp_path: Path):
        library = word_piece()
        assert read(tmp_path, file(library)).bos_token_id == 1
        assert read(tmp_path, file(library) | {"tokenizer_config.json": {"cls_token": "mary"}}).bos_token_id == 2


def word_piece(lowercase: bool = True) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(models.WordPiece({"[UNK]": 0, "[CLS]": 1, "mary": 2, "##s": 3}, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return library


class TestPipelines:
    """What `tokenizer.json` does to a text."""

    def test_bert_settings_count(self, tmp_path: Path):
        settings = {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False}}
        assert read(tmp_path, file(word_piece()) | settings).encode("Mary mary") == [0, 2]
        tokenizer = read(
            tmp_path, file(word_piece(False)) | {"tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}
        )
        assert tokenizer.encode_with_offsets("Marys") == ([2, 3], [(0, 4), (4, 5)])
        assert "lowercase True" in tokenizer.notes[0]

    def test_words_run_together_again(self, tmp_path: Path):
        tokenizer = read(tmp_path, file(word_piece()))
        assert tokenizer.strings([1, 2, 3, 2]) == ["[CLS]", "mary", "##s", "mary"]
        assert tokenizer.decode_with_offsets([1, 2, 3, 2]) == (
            "[CLS] marys mary",
            [(0, 5), (6, 10), (10, 11), (12, 16)],
        )

    @pytest.mark.parametrize("decoder", [None, decoders.Sequence([decoders.ByteLevel()]), decoders.Fuse()])
    def test_byte_level_whatever_the_decoder(self, tmp_path: Path, decoder: Any):
        library = byte_level()
        library.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        content = file(library)
        content["tokenizer.json"]["decoder"] = None if decoder is None else json.loads(decoder.__getstate__())
        tokenizer = read(tmp_path, content)
        ids = tokenizer.encode("é Mary")
        assert tokenizer.strings(ids) == [r"\xc3", r"\xa9", " Mary"]
        assert tokenizer.decode(ids) == "é Mary"

    def test_metaspace(self, tmp_path: Path):
        library = tokenizers.Tokenizer(models.BPE({"▁": 0, "a": 1, "▁a": 2}, [("▁", "a")]))
        library.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer = read(tmp_path, file(library))
        assert tokenizer.strings(tokenizer.encode("a a")) == [" a", " a"]
        assert tokenizer.decode(tokenizer.encode("a a")) == "a a"
        with pytest.raises(TokenizerError, match="text 'a b' character 3: the tokenizer has no token for 'b'"):
            tokenizer.encode("a b")
        assert tokenizer.strings([3]) == ["[3]"]

    def test_offsets_are_of_the_text_as_given(self, tmp_path: Path):
        library = byte_level()
        library.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.Strip()])
        ids, offsets = read(tmp_path, file(library)).encode_with_offsets("  Máry and")
        assert (ids, offsets) == ([VOCABULARY["Mary"], VOCABULARY["Ġand"]], [(2, 6), (6, 10)])

    def test_what_stands_in_the_way_is_taken_out(self, tmp_path: Path):
        library = byte_level()
        library.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
        )
        library.enable_padding(length=50)
        library.enable_truncation(2)
        content = file(library)
        content["tokenizer.json"]["model"]["dropout"] = 0.9
        tokenizer = read(tmp_path, content)
        assert tokenizer.encode("Mary Mary and") == [VOCABULARY[token] for token in WORDS]
        around, dropout = sorted(tokenizer.notes, key=lambda note: "dropout" in note)
        assert "puts <|endoftext|> around a text" in around
        assert "dropout" in dropout

    def test_unknown_bytes_are_the_unknown_token(self, tmp_path: Path):
        library = tokenizers.Tokenizer(models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>"))
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        assert read(tmp_path, file(library)).encode("aba") == [1, 0, 1]

    def test_words_without_an_unknown_token(self, tmp_path: Path):
        tokenizer = read(tmp_path, file(tokenizers.Tokenizer(models.WordLevel({"a": 0}))))
        with pytest.raises(TokenizerError, match=r"text 'b': the tokenizer fails \(.*\); leave out"):
            tokenizer.encode("b")

    def test_special_tokens_that_are_split(self, tmp_path: Path):
        tokenizer = read(tmp_path, PAIR | {"tokenizer_config.json": {"split_special_tokens": True}})
        assert len(tokenizer.encode("<|endoftext|>")) > 1


@pytest.mark.parametrize(
    "name", ["vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "encoder.json"]
)
def test_tokenizers_of_other_kinds(tmp_path: Path, name: str):
    tokenizer = read(tmp_path, {name: "[UNK]\nmary\n"}, replace(CONFIGURATION, bos_token_id=5))
    assert isinstance(tokenizer, UnreadTokenizer)
    assert (tokenizer.strings([3, 1]), tokenizer.bos_token_id) == (["3", "1"], 5)
    way_out = f'AutoTokenizer.from_pretrained("{tmp_path}").save_pretrained("{tmp_path}")'
    for use in (tokenizer.encode, tokenizer.encode_with_offsets, tokenizer.token_id, lambda _: tokenizer.decode([1])):
        with pytest.raises(TokenizerError) as caught:
            use("mary")
        assert f"the tokenizer is {name} alone" in str(caught.value)
        assert way_out in str(caught.value)
    (tmp_path / "again").mkdir()
    tokenizer.save(tmp_path / "again")
    assert (tmp_path / "again" / name).read_text() == "[UNK]\nmary\n"


def test_a_file_too_large(tmp_path: Path):
    with (tmp_path / "tokenizer.json").open("wb") as sparse:
        sparse.truncate(1 << 31)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: 2\.1 GB, too large for a tokenizer"):
        Tokenizer.read(tmp_path, CONFIGURATION)
