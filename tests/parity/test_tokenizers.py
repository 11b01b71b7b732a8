"""Ids, offsets and the beginning of a text equal those of transformers' AutoTokenizer, whatever stands in a folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the extra `parity`: PyTorch")
pytest.importorskip("transformers", reason="needs the extra `parity`: Hugging Face transformers")

import tokenizers
from checkpoints.folders import CONFIG
from tokenizers import models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from gpt2jax import GPT2Config, Tokenizer

pytestmark = pytest.mark.parity

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|endoftext|>", *ALPHABET, "Ma", "ry", "Mary", "ĠMary"]
VOCABULARY = {token: number for number, token in enumerate(TOKENS)}
MERGES = [("M", "a"), ("r", "y"), ("Ma", "ry"), ("Ġ", "Mary")]
N = len(VOCABULARY)
CONFIGURATION = replace(GPT2Config.from_hf(CONFIG), d_vocab=N + 9, bos_token_id=None)
PAIR: dict[str, Any] = {
    "vocab.json": VOCABULARY,
    "merges.txt": "\n".join(["#version: 0.2", *map(" ".join, MERGES), ""]),
}
GPT2 = {"tokenizer_class": "GPT2Tokenizer"}
OTHER = {"tokenizer_class": "PreTrainedTokenizerFast"}
BERT = {"tokenizer_class": "BertTokenizer"}
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")
TEXTS = ("<u> Mary", "Mary <u>  and<v>Mary", "a<u>b xx<u>", "  Mary<|endoftext|> met 12 [CLS] Marys.", "Café 🤗 <w>")


def token(content: str, **changed: bool) -> dict[str, Any]:
    return {"content": content, **dict.fromkeys(FLAGS, False), **changed}


def byte_level(normalizer: Any = None, cutter: Any = None, **changed: Any) -> dict[str, Any]:
    library = tokenizers.Tokenizer(models.BPE(VOCABULARY, MERGES))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if cutter is None else cutter
    if normalizer is not None:
        library.normalizer = normalizer
    return {"tokenizer.json": json.loads(library.to_str()) | changed}


def listed(**changed: bool) -> dict[str, Any]:
    return byte_level(added_tokens=[{"id": N, "special": True, **token("<u>", **changed)}])


def word_piece() -> dict[str, Any]:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "mary", "Mary", "##s", "cafe", "a", "1", "##2", "."]
    vocabulary = {name: number for number, name in enumerate(names)}
    library = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return {"tokenizer.json": json.loads(library.to_str())}


def settings(content: dict[str, Any], klass: dict[str, Any] = GPT2) -> dict[str, Any]:
    return {"tokenizer_config.json": klass | content}


FOLDERS: dict[str, dict[str, Any]] = {
    "plain": PAIR,
    "added": PAIR | {"added_tokens.json": {"<u>": N, "<v>": N + 1}},
    "added, named": PAIR
    | {"added_tokens.json": {"<u>": N, "<v>": N + 1}, "special_tokens_map.json": {"bos_token": "<v>"}},
    "added beside json": byte_level() | {"added_tokens.json": {"<u>": N}},
    "names": PAIR | {"special_tokens_map.json": {"bos_token": "<u>", "unk_token": "<v>", "pad_token": "<w>"}},
    "names beside json": byte_level() | {"special_tokens_map.json": {"bos_token": "<u>"}},
    "more names": PAIR | settings({"bos_token": "<u>", "pad_token": "<v>", "additional_special_tokens": ["<w>"]}),
    "own names": PAIR | settings({"image_token": "<u>", "extra_special_tokens": {"audio_token": "<v>"}}),
    "names twice": PAIR | settings({"bos_token": "<u>"}) | {"special_tokens_map.json": {"bos_token": "<v>"}},
    "names not read": PAIR
    | settings({"bos_token": "<u>", "added_tokens_decoder": {str(N): token("<u>")}})
    | {"special_tokens_map.json": {"bos_token": "<v>"}},
    **{
        f"{flag}, {name}": folder
        for flag in FLAGS
        for name, folder in {
            "named": PAIR | {"special_tokens_map.json": {"bos_token": token("<u>", **{flag: True})}},
            "in settings": PAIR | settings({"added_tokens_decoder": {str(N): token("<u>", **{flag: True})}}),
            "beside json": byte_level() | settings({"added_tokens_decoder": {str(N): token("<u>", **{flag: True})}}),
            "in both": listed() | settings({"added_tokens_decoder": {str(N): token("<u>", **{flag: True})}}),
            "in json": listed(**{flag: True}) | settings({"bos_token": "<u>"}),
        }.items()
    },
    **{
        f"prefix {wanted} {stated} {klass.get('tokenizer_class')}": byte_level(
            cutter=pre_tokenizers.ByteLevel(add_prefix_space=stated)
        )
        | settings({} if wanted is None else {"add_prefix_space": wanted}, klass)
        for klass in (GPT2, OTHER, {})
        for wanted in (None, True, False)
        for stated in (True, False)
    },
    "prefix of a pair": PAIR | settings({"add_prefix_space": True}),
    "adds a beginning": PAIR | settings({"add_bos_token": True}),
    "at most 3": PAIR | settings({"model_max_length": 3}),
    "splits special tokens": PAIR | settings({"split_special_tokens": True}),
    "sequence": byte_level(
        cutter=pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    )
    | settings({}, OTHER),
    "normalized": byte_level(normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.Strip()]))
    | settings({}, OTHER),
    "template": byte_level(
        post_processor=json.loads(
            processors.TemplateProcessing(
                single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
            ).__getstate__()
        )
    )
    | settings({}, OTHER),
    "BERT": word_piece() | settings({}, BERT),
    "BERT, cased": word_piece() | settings({"do_lower_case": False}, BERT),
    "BERT, accents": word_piece() | settings({"strip_accents": False}, BERT),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_as_transformers_reads_it(name: str, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": N + 9, "bos_token_id": None}))
    for file, content in FOLDERS[name].items():
        (tmp_path / file).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.read(tmp_path, CONFIGURATION)
    assert ours is not None
    for text in TEXTS:
        expected = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids == expected["input_ids"], text
        assert offsets == [tuple(each) for each in expected["offset_mapping"]], text
    # Other classes declare no beginning; BERT's texts begin with [CLS].
    if FOLDERS[name].get("tokenizer_config.json", GPT2).get("tokenizer_class") != OTHER["tokenizer_class"]:
        assert ours.bos_token_id == (theirs.bos_token_id if theirs.bos_token_id is not None else theirs.cls_token_id)


HARD = (
    "",
    " ",
    "   \n\n\t  ",
    "a\u00a0b\u2003c\u3000d",
    "don't I'LL we've 'S’s",
    "👩‍👩‍👧‍👦🏳️‍🌈🤷🏽‍♀️",
    "e\u0301\u0327\u0300 ﬁ ﷺ Å Å",
    "مرحبا بالعالم שלום",
    "漢字かな交じり文 한국어 ไทย",
    "\u202eevil\u202c \u200b\u200d\ufeff",
    "\x00\x01\x1b[2J\x7f\x85",
    "\ufffd\ufffe\uffff\U0010ffff",
    "<|endoftext|>Mary<|endoftext|> <|endoftext|",
    "1234567890 3.14e-10 ½ ² ١٢٣",
    "    def f(x):\n\treturn x  # é\r\n",
    "https://example.org/?a=b&c=%20#d_e--f",
    "a" * 300,
    " the" * 100,
    "¡¿«»ÀÿĀĠĊ",
)


@pytest.mark.parametrize("names", [["tokenizer.json"], ["vocab.json", "merges.txt"]], ids=" ".join)
def test_gpt2s_own_files_on_hard_strings(shared: Path, tmp_path: Path, names: list[str]):
    """transformers and the library, on strings that cut characters, mix directions, repeat, or look like tokens."""
    for name in ["config.json", *names]:
        (tmp_path / name).write_bytes((shared / "gpt2" / name).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(GPT2))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    library = tokenizers.Tokenizer.from_file(str(shared / "gpt2" / "tokenizer.json"))
    ours = Tokenizer.read(tmp_path, GPT2Config.from_hf(json.loads((tmp_path / "config.json").read_text())))
    assert ours is not None
    random = Random(0)
    codes = [each for each in range(0x110000) if not 0xD800 <= each < 0xE000]
    drawn = ["".join(map(chr, random.choices(codes, k=random.randrange(1, 12)))) for _ in range(300)]
    for text in (*HARD, *drawn):
        expected = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids == expected["input_ids"] == library.encode(text, add_special_tokens=False).ids, text
        assert offsets == [tuple(each) for each in expected["offset_mapping"]], text
        assert ours.decode(ids) == text
