"""Prompts from every source; what is wrong with one, said in one line that names file and line."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from gpt2jax.config import GPT2Config
from gpt2jax.errors import TokenizerError
from gpt2jax.tokenizer import Tokenizer
from svdtrace import prompts
from svdtrace.errors import PromptError
from svdtrace.prompts import language

CONFIG = GPT2Config(n_layers=1, n_heads=1, d_model=4, d_mlp=4, n_ctx=12, d_vocab=40, bos_token_id=39)


class WordTokenizer:
    """Words with the space before them, and punctuation; a new word gets the next id."""

    unread = ""
    bos_token_id = 38
    d_vocab = 40

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        if "§" in text:
            raise TokenizerError("text '§': the tokenizer has no token for it; leave it out")
        found = list(re.finditer(r" ?\w+|[^\w\s]", text))
        return [self.ids.setdefault(each.group(), len(self.ids)) for each in found], [each.span() for each in found]

    def encode(self, text: str) -> list[int]:
        return self.encode_with_offsets(text)[0]

    def strings(self, ids: Any) -> list[str]:
        words = {token: word for word, token in self.ids.items()}
        return [words.get(token, f"[{token}]") for token in ids]

    def decode_with_offsets(self, ids: Any) -> tuple[str, list[tuple[int, int]]]:
        strings = self.strings(ids)
        ends = list(accumulate(map(len, strings)))
        return "".join(strings), list(zip([0, *ends[:-1]], ends, strict=True))

    def decode(self, ids: Any) -> str:
        return self.decode_with_offsets(ids)[0]

    def token_id(self, text: str) -> int | None:
        return self.ids.get(text)


def read_line(tmp_path: Path, content: Any, tokenizer: Any = None, **options: Any) -> prompts.Prompt:
    """The prompt that one line of a file gives."""
    path = tmp_path / "one.jsonl"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return prompts.read(str(path), tokenizer, config=CONFIG, **options)[0]


def test_ids_need_no_tokenizer(tmp_path: Path):
    record = {"id": "a", "tokens": [3, 1, 2], "roles": {"end": 1, "IO": 0}, "answer": 5, "distractor": 6}
    prompt = read_line(tmp_path, record)
    assert prompt == prompts.Prompt("a", (3, 1, 2), ("3", "1", "2"), {"end": 1, "IO": 0}, 5, 6)
    assert list(prompt.roles) == ["end", "IO"]
    assert prompt.last == 1


def test_tokens_win_over_text(tmp_path: Path):
    tokenizer = WordTokenizer()
    tokenizer.encode("Mary gave")
    assert read_line(tmp_path, {"text": "Mary", "tokens": [1, 0]}, tokenizer).strings == (" gave", "Mary")


ANN = "Ann and Anna ran, met Ann."


@pytest.mark.parametrize(
    ("role", "position"),
    [
        (6, 6),
        (["Ann", 1], 0),
        (["Ann", 2], 6),
        (" Ann", 6),
        ("met Ann", 6),
        ("Anna", 2),
        ("nna", 2),
        (".", 7),
    ],
)
@pytest.mark.parametrize("as_ids", [False, True])
def test_a_role_may_be_text(tmp_path: Path, role: Any, position: int, as_ids: bool):
    tokenizer = WordTokenizer()
    ids = tokenizer.encode(ANN)
    assert tokenizer.strings(ids) == ["Ann", " and", " Anna", " ran", ",", " met", " Ann", "."]
    record = {"tokens": ids} if as_ids else {"text": ANN}
    assert read_line(tmp_path, {**record, "roles": {"r": role}}, tokenizer).roles == {"r": position}


@pytest.mark.parametrize(
    ("answer", "expected"), [("Mary", 0), (" Mary", 3), ("John", 2), (" said", 4), ("said", 4), (1, 1)]
)
def test_an_answer_may_be_text_as_given_or_with_or_without_its_space(tmp_path: Path, answer: Any, expected: int):
    tokenizer = WordTokenizer()
    tokenizer.encode("Mary and John Mary said")
    assert tokenizer.ids == {"Mary": 0, " and": 1, " John": 2, " Mary": 3, " said": 4}
    prompt = read_line(tmp_path, {"tokens": [0], "answer": answer, "distractor": answer}, tokenizer)
    assert (prompt.answer, prompt.distractor) == (expected, expected)


@pytest.mark.parametrize(("tokenizer", "first"), [(None, 39), (WordTokenizer(), 38)])
def test_bos_moves_the_roles(tmp_path: Path, tokenizer: Any, first: int):
    prompt = read_line(tmp_path, {"tokens": [1, 2], "roles": {"end": 1}}, tokenizer, bos=True)
    assert prompt.tokens == (first, 1, 2)
    assert prompt.roles == {"end": 2}


def test_bos_counts_towards_the_context(tmp_path: Path):
    full = {"tokens": [1] * CONFIG.n_ctx}
    read_line(tmp_path, full)
    with pytest.raises(PromptError, match="13 tokens, but the model reads at most 12"):
        read_line(tmp_path, full, bos=True)


WRONG_LINES = {
    "[1, 2]": "expected an object",
    "{": "not valid JSON at column 2",
    '{"tokens": []}': "the prompt has no tokens",
    '{"text": ""}': "the prompt has no tokens",
    '{"text": "§"}': "text '§': the tokenizer has no token for it",
    '{"text": 3}': '"text" must be a string',
    '{"text": "\\ud800"}': '"text" must be a string of valid Unicode',
    '{"roles": {}}': 'neither "text" nor "tokens" is given',
    '{"token": [1]}': 'unknown key "token"; did you mean "tokens"?',
    '{"tokens": "12"}': '"tokens" must be a list of token ids',
    '{"tokens": [1, true]}': '"tokens" must be a list of token ids',
    '{"tokens": [1.5]}': '"tokens" must be a list of token ids',
    '{"tokens": [1, 40]}': "token 40 at position 1 is outside the model's vocabulary, 0 to 39",
    '{"tokens": [-1]}': "token -1 at position 0 is outside the model's vocabulary, 0 to 39",
    '{"tokens": [1,1,1,1,1,1,1,1,1,1,1,1,1]}': "the prompt has 13 tokens, but the model reads at most 12",
    '{"tokens": [1], "id": 7}': "id is 7; give a string",
    '{"tokens": [1], "roles": [2]}': '"roles" must be an object from names to positions',
    '{"tokens": [1, 2], "roles": {"S2": 2}}': 'role "S2" is position 2, but the prompt has 2 tokens',
    '{"tokens": [1, 2], "roles": {"S2": -1}}': 'role "S2" is position -1, but the prompt has 2 tokens',
    '{"tokens": [1], "roles": {"S2": true}}': 'role "S2" is True; give a position',
    '{"tokens": [1], "roles": {"S2": ["a", 0]}}': 'role "S2" asks for occurrence 0 of "a"; count from 1',
    '{"text": "Mary ran", "roles": {"S2": "John"}}': 'role "S2" is the text "John", which does not occur in the prompt',
    '{"text": "Mary ran", "roles": {"IO": ["Mary", 2]}}': 'role "IO" is occurrence 2 of "Mary", but it occurs 1 times',
    '{"tokens": [1], "answer": 40}': "answer 40 is outside the model's vocabulary, 0 to 39",
    '{"tokens": [1], "answer": 1.5}': "answer is 1.5; give a token id",
    '{"text": "a b", "distractor": "a b"}': 'distractor is the text "a b", which is not one token of the model',
    '{"tokens": [1], "id": "first"}': 'id "first" was used before, at',
}


@pytest.mark.parametrize(("line", "said"), WRONG_LINES.items(), ids=WRONG_LINES.values())
def test_a_wrong_line_is_named(tmp_path: Path, line: str, said: str):
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"tokens": [1], "id": "first"}}\n\n{line}\n', encoding="utf-8")
    with pytest.raises(PromptError) as caught:
        prompts.read(str(path), WordTokenizer(), config=CONFIG)
    assert str(caught.value).startswith(f"{path} line 3: {said}")
    assert "\n" not in str(caught.value)


WITHOUT_TOKENIZER = {
    '{"text": "Mary"}': '"text" is given, but the model has no tokenizer; give "tokens"',
    '{"tokens": [1], "roles": {"IO": "Mary"}}': 'role "IO" is the text "Mary", but the model has no tokenizer',
    '{"tokens": [1], "answer": "Mary"}': 'answer is the text "Mary", but the model has no tokenizer',
}


@pytest.mark.parametrize(("line", "said"), WITHOUT_TOKENIZER.items())
def test_text_needs_a_tokenizer(tmp_path: Path, line: str, said: str):
    with pytest.raises(PromptError, match=re.escape(said)):
        read_line(tmp_path, line)


def test_bytes_that_are_no_utf8_are_placed(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'{"tokens": [1]}\n{"text": "\xff"}\n')
    with pytest.raises(PromptError, match="line 2: not valid UTF-8 at byte 10"):
        prompts.read(str(path), None)


def test_an_empty_file_is_refused_but_streams_nothing(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n \n")
    assert list(prompts.stream(str(path), None)) == []
    with pytest.raises(PromptError, match="holds no prompts; give at least one"):
        prompts.read(str(path), None)


def test_streaming_gives_what_comes_before_the_fault(tmp_path: Path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"tokens": [1]}\n{"tokens": []}\n')
    stream = prompts.stream(str(path), None)
    assert next(stream).tokens == (1,)
    with pytest.raises(PromptError, match="line 2"):
        next(stream)


def test_a_text_file_is_cut_into_pieces_of_one_length(tmp_path: Path):
    path = tmp_path / "a:book.txt"
    path.write_text("one two three four five")
    tokenizer = WordTokenizer()
    found = prompts.read(f"text:{path}:2", tokenizer, config=CONFIG)
    assert [prompt.strings for prompt in found] == [("one", " two"), (" three", " four")]
    assert [prompt.id for prompt in found] == ["text-0", "text-1"]
    with pytest.raises(PromptError, match="has 5 tokens, fewer than one prompt of 6"):
        prompts.text(path, 6, tokenizer)
    with pytest.raises(PromptError, match="needs a tokenizer"):
        prompts.text(path, 2, None)


SOURCES = {
    "nowhere.jsonl": "nowhere.jsonl: no such file; give a .jsonl",
    "iio:64": "iio:64: no such file; did you mean ioi:N[:SEED]?",
    "ioi:many": "ioi:many: expected ioi:N[:SEED] with whole numbers, such as ioi:64",
    "ioi:1:2:3": "ioi:1:2:3: expected ioi:N[:SEED]",
    "ioi:0": "ioi: 0 prompts are asked for; give 1 or more",
    "text:book.txt": "text:book.txt: expected text:FILE:LENGTH",
    "text:nowhere.txt:4": "nowhere.txt: cannot be read (No such file or directory)",
    "prompts.csv": "prompts.csv: not a kind of file that holds prompts",
    "empty": "empty: a folder without .jsonl, .jsonl.gz, .parquet files",
}


@pytest.mark.parametrize(("source", "said"), SOURCES.items())
def test_a_source_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, said: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.csv").write_text("text\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PromptError) as caught:
        prompts.read(source, WordTokenizer())
    assert str(caught.value).startswith(said)


def test_texts_are_prompts_without_roles():
    first, second = prompts.from_texts(["Mary ran", "Mary"], WordTokenizer(), config=CONFIG)
    assert (first.strings, first.roles, second.tokens) == (("Mary", " ran"), {}, (0,))
    with pytest.raises(PromptError, match="text 2: the prompt has no tokens"):
        prompts.from_texts(["Mary", ""], WordTokenizer())


def test_the_papers_prompts_load_as_they_are(shared: Path):
    found = prompts.read(str(shared / "paper" / "ioi256.jsonl"), None)
    assert len(found) == 256
    assert found[0].id == "ioi-0"
    assert list(found[0].roles)[:4] == ["IO", "IO-1", "IO+1", "S1"]
    assert all(prompt.tokens[-1] == prompt.tokens[prompt.roles["IO"]] == prompt.answer for prompt in found)


def test_generated_sentences_in_gpt2s_vocabulary(shared: Path):
    config = GPT2Config(n_layers=1, n_heads=1, d_model=4, d_mlp=4, n_ctx=64, d_vocab=50257, bos_token_id=50256)
    tokenizer = Tokenizer.read(shared / "gpt2", config)
    found = prompts.read("ioi:5:3", tokenizer, config=config, bos=True)
    plain = prompts.ioi(5, tokenizer, seed=3)
    assert [prompt.tokens[1:] for prompt in found] == [prompt.tokens for prompt in plain]
    assert found == prompts.read("ioi:5", tokenizer, config=config, bos=True, seed=3)
    for prompt in found:
        assert prompt.tokens[prompt.roles["IO"]] == prompt.answer
        assert prompt.tokens[prompt.roles["S1"]] == prompt.tokens[prompt.roles["S2"]] == prompt.distractor
    assert len(prompts.read("ordinary:4", tokenizer, config=config)) == 4


@pytest.mark.parametrize("kind", ["ioi", "ordinary"])
def test_sentences_that_a_tokenizer_cannot_say(kind: str):
    with pytest.raises(PromptError, match=rf"{kind}: .* are one token each .*give prompts of your own"):
        getattr(prompts, kind)(2, WordTokenizer())


class FewWords(WordTokenizer):
    """No more words than a sentence may need, each one token with the space before it."""

    d_vocab = 4000
    known = frozenset([*language.NAMES[:4], *language.OBJECTS[:3], *language.PLACES[:2]])

    def token_id(self, text: str) -> int | None:
        return self.ids.setdefault(text, len(self.ids)) if text.strip() in self.known else None


@pytest.mark.parametrize("kind", ["ioi", "ordinary"])
def test_few_words_are_enough(kind: str):
    made = getattr(prompts, kind)(300, FewWords())
    assert len({each.id for each in made}) == 300


def test_sentences_fit_the_model():
    tokenizer = FewWords()
    every = prompts.ioi(60, tokenizer)
    longest = int(np.median([len(each.tokens) for each in every]))
    short = [each for each in every if len(each.tokens) <= longest]
    assert 10 < len(short) < 60
    assert prompts.ioi(len(short), tokenizer, longest=longest) == short
    shape = GPT2Config(n_layers=1, n_heads=1, d_model=4, d_mlp=4, n_ctx=longest, d_vocab=4000, bos_token_id=39)
    read = prompts.read("ioi:10", tokenizer, config=shape, bos=True)
    assert max(len(each.tokens) for each in read) <= longest
    with pytest.raises(
        PromptError, match=r"ioi: 200 sentences on end have more than the 3 tokens that the model reads"
    ):
        prompts.ioi(1, tokenizer, longest=3)


def word_piece(tmp_path: Path) -> Tokenizer:
    """Two words and a suffix, whose texts begin with a token beyond CONFIG's vocabulary."""
    vocabulary = {"[UNK]": 0, "mary": 1, "##s": 2, "and": 3, "[CLS]": 50}
    library = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    tokenizer = Tokenizer.read(tmp_path, CONFIG)
    assert tokenizer is not None
    return tokenizer


def test_running_text_is_the_tokenizers(tmp_path: Path):
    """Catches display strings joined, in which words have no spaces between them."""
    tokenizer = word_piece(tmp_path)
    record = {"tokens": [1, 2, 3, 1], "roles": {"IO": "marys and", "end": ["mary", 2]}}
    prompt = read_line(tmp_path, record, tokenizer)
    assert (prompt.text, prompt.roles) == ("marys and mary", {"IO": 2, "end": 3})
    assert read_line(tmp_path, {"text": "Marys and Mary"}, tokenizer).text == "Marys and Mary"
    assert read_line(tmp_path, {"text": "Mary"}, WordTokenizer(), bos=True).text == "[38]Mary"
    assert read_line(tmp_path, {"tokens": [1, 2]}).text is None


def test_beginning_of_text_beyond_the_vocabulary(tmp_path: Path):
    expected = r"the tokenizer's, '\[CLS\]', is token id 50, beyond the model's vocabulary of 40; leave --bos out"
    with pytest.raises(PromptError, match=expected):
        read_line(tmp_path, {"text": "mary"}, word_piece(tmp_path), bos=True)


def test_a_tokenizer_that_is_not_read(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("mary")
    tokenizer = Tokenizer.read(tmp_path, CONFIG)
    prompt = read_line(tmp_path, {"tokens": [1, 2], "roles": {"end": 1}, "answer": 3}, tokenizer)
    assert prompt == prompts.Prompt(None, (1, 2), ("1", "2"), {"end": 1}, 3)
    for record in ({"text": "mary"}, {"tokens": [1], "answer": "mary"}):
        with pytest.raises(PromptError, match=r"one\.jsonl line 1: .*vocab\.txt alone.*AutoTokenizer"):
            read_line(tmp_path, record, tokenizer)
    with pytest.raises(PromptError, match=r"vocab\.txt alone"):
        prompts.ioi(1, tokenizer)
    with pytest.raises(PromptError, match='role "IO" is the text "1", but the model has no tokenizer'):
        read_line(tmp_path, {"tokens": [1], "roles": {"IO": "1"}}, tokenizer)
