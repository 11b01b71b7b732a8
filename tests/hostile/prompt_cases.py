"""Prompts that are none: files, records, ids, texts, roles, answers, sources."""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

import gpt2jax
from hostile.refusals import N_POSITIONS, Case, Content
from svdtrace import prompts

FILE = "p.jsonl"
GIVEN = ("tokens", "--model", "model", "--prompts")


def reading(source: str) -> Callable[[], object]:
    """The same source read in Python."""

    def read() -> object:
        model = gpt2jax.load("model")
        return prompts.read(source, model.tokenizer, config=model.config)

    return read


def of_file(name: str, content: Content, said: str, *also: str) -> Case:
    """A file of prompts; what is said begins with its name."""
    return Case(name, (*GIVEN, FILE), f"{FILE}{said}", {FILE: content}, python=reading(FILE), also=also)


def of_record(name: str, record: Any, said: str, *also: str) -> Case:
    """A second line that is wrong."""
    return of_file(name, [{"tokens": [1]}, record], f" line 2: {said}", *also)


def of_source(name: str, source: str, said: str, files: Any = None, **more: Any) -> Case:
    return Case(name, (*GIVEN, source), said, files or {}, python=reading(source), **more)


def table(**columns: Any) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def closed() -> None:
    sys.stdin = None  # pyright: ignore[reportAttributeAccessIssue]


D_VOCAB = 256 + 8 + 4
FILES = [
    of_file("no prompts", "", ": holds no prompts; give at least one"),
    of_file("empty lines alone", "\n \n\t\n", ": holds no prompts"),
    of_file("no JSON", '{"tokens": [1]', " line 1: not valid JSON at column"),
    of_file("deep JSON", "[" * 100_000, " line 1: not usable JSON ("),
    of_file("a number of ten thousand digits", '{"tokens": [' + "9" * 10_000 + "]}", " line 1: not usable JSON ("),
    of_file("bytes that are no UTF-8", b'{"text": "\xff\xfe"}\n', " line 1: not valid UTF-8 at byte 10; save the file"),
    of_file("UTF-16", '{"tokens": [1]}'.encode("utf-16"), " line 1: not valid UTF-8 at byte 0"),
    of_file("null characters", b"\0" * 1000, " line 1: not valid JSON at column 1"),
    of_file("a binary file", bytes(range(256)) * 40, " line 1: not valid "),
    of_file("a page of HTML", "<!DOCTYPE html>", " line 1: not valid JSON at column 1"),
    of_file("two objects on a line", '{"tokens": [1]} {"tokens": [2]}', " line 1: not valid JSON at column 17"),
    of_source("gzip that is none", "p.jsonl.gz", "p.jsonl.gz: damaged gzip file (", {"p.jsonl.gz": "plain"}),
    of_source(
        "gzip cut short",
        "p.jsonl.gz",
        "p.jsonl.gz: damaged gzip file (",
        {"p.jsonl.gz": gzip.compress(b'{"tokens": [1]}\n' * 999)[:-12]},
    ),
    of_source(
        "parquet that is none", "p.parquet", "p.parquet: not a readable parquet file (", {"p.parquet": "PAR1" * 9}
    ),
    of_source(
        "parquet cut short",
        "p.parquet",
        "p.parquet: not a readable parquet file (",
        {"p.parquet": table(tokens=[[1]])[:-9]},
    ),
    of_source(
        "parquet of other columns",
        "p.parquet",
        'p.parquet: expected a column "text" or "tokens", found words',
        {"p.parquet": table(words=["a"])},
    ),
    of_source(
        "parquet of wrong types",
        "p.parquet",
        'p.parquet row 1: "tokens" must be a list of token ids',
        {"p.parquet": table(tokens=["Mary"])},
    ),
    of_source(
        "parquet of bytes for text",
        "p.parquet",
        'p.parquet row 1: "text" must be a string',
        {"p.parquet": table(text=[b"\xff"])},
    ),
    of_source(
        "parquet of huge ids",
        "p.parquet",
        "p.parquet row 1: token 18446744073709551615 at position 0 is outside",
        {"p.parquet": table(tokens=pa.array([[(1 << 64) - 1]], pa.list_(pa.uint64())))},
    ),
    of_source("a folder of nothing", "empty", "empty: a folder without .jsonl", before=lambda: Path("empty").mkdir()),
    of_source(
        "a folder with a damaged part",
        "parts",
        "parts/b.jsonl line 1: not valid JSON",
        {"parts/a.jsonl": [{"tokens": [1]}], "parts/b.jsonl": "{"},
    ),
    of_source(
        "a link to itself", "loop.jsonl", "loop.jsonl: ", before=lambda: Path("loop.jsonl").symlink_to("loop.jsonl")
    ),
    of_source(
        "a link to nowhere",
        "gone.jsonl",
        "gone.jsonl: no such file",
        before=lambda: Path("gone.jsonl").symlink_to("nowhere"),
    ),
]
RECORDS = [
    of_record("a list", [1, 2], "expected an object"),
    of_record("null", None, "expected an object"),
    of_record("no fields", {}, 'neither "text" nor "tokens" is given'),
    of_record("a misspelt key", {"token": [1]}, 'unknown key "token"; did you mean "tokens"?'),
    of_record("no tokens", {"tokens": []}, "the prompt has no tokens; give at least one"),
    of_record("no text", {"text": ""}, "the prompt has no tokens; give some text"),
    of_record(
        "an id of the size of the vocabulary",
        {"tokens": [1, D_VOCAB]},
        f"token {D_VOCAB} at position 1 is outside the model's vocabulary, 0 to {D_VOCAB - 1}",
    ),
    of_record("a negative id", {"tokens": [-1]}, "token -1 at position 0 is outside the model's vocabulary"),
    of_record("an id beyond int64", {"tokens": [1 << 70]}, f"token {1 << 70} at position 0 is outside"),
    of_record("an id that is true", {"tokens": [True]}, '"tokens" must be a list of token ids'),
    of_record("an id that is a fraction", {"tokens": [0.5]}, '"tokens" must be a list of token ids'),
    of_record("an id that is infinite", {"tokens": [float("inf")]}, '"tokens" must be a list of token ids'),
    of_record("an id that is no number", {"tokens": [float("nan")]}, '"tokens" must be a list of token ids'),
    of_record("ids that are text", {"tokens": "1 2"}, '"tokens" must be a list of token ids'),
    of_record(
        "one token too many",
        {"tokens": [1] * (N_POSITIONS + 1)},
        f"the prompt has {N_POSITIONS + 1} tokens, but the model reads at most {N_POSITIONS}; shorten it",
    ),
    of_record(
        "a text of a million characters",
        {"text": "Mary " * 200_000},
        "the prompt has ",
        "but the model reads at most 16; shorten it",
    ),
    of_record("half a character in a text", {"text": "Mary \ud83d"}, '"text" must be a string of valid Unicode'),
    of_record(
        "half a character in an id", {"tokens": [1], "id": "\udc00"}, 'id is "\\udc00", which is not valid Unicode'
    ),
    of_record("half a character in a role", {"tokens": [1], "roles": {"\ud83d": 0}}, 'the name of a role is "\\ud83d"'),
    of_record("half a character in an answer", {"tokens": [1], "answer": "\ud83d"}, '"answer" holds "\\ud83d"'),
    of_record(
        "half a character in a key",
        {"tokens": [1], "role\ud83d": {}},
        'unknown key "role\\ud83d"; did you mean "roles"?',
    ),
    of_record(
        "a control character in an id",
        {"tokens": [1], "id": "a\x1b[2J"},
        "id is 'a\\x1b[2J', with the control character U+001B",
    ),
    of_record(
        "a control character in a role",
        {"tokens": [1], "roles": {"a\x00": 0}},
        "the name of a role is 'a\\x00', with the control character U+0000",
    ),
    of_record("an id that is a number", {"tokens": [1], "id": 7}, "id is 7; give a string"),
    of_record(
        "roles that are a list", {"tokens": [1], "roles": [2]}, '"roles" must be an object from names to positions'
    ),
    of_record(
        "roles that are text", {"tokens": [1], "roles": "IO"}, '"roles" must be an object from names to positions'
    ),
    of_record(
        "a role behind the end",
        {"tokens": [1], "roles": {"IO": 1}},
        'role "IO" is position 1, but the prompt has 1 tokens',
    ),
    of_record(
        "a role before the beginning",
        {"tokens": [1], "roles": {"IO": -1}},
        'role "IO" is position -1, but the prompt has 1 tokens',
    ),
    of_record(
        "a role beyond int64",
        {"tokens": [1], "roles": {"IO": 1 << 70}},
        f'role "IO" is position {1 << 70}, but the prompt has 1 tokens',
    ),
    of_record(
        "a role that is infinite", {"tokens": [1], "roles": {"IO": float("inf")}}, 'role "IO" is inf; give a position'
    ),
    of_record("a role that is an object", {"tokens": [1], "roles": {"IO": {}}}, 'role "IO" is {}; give a position'),
    of_record(
        "a role of a text not there",
        {"text": "Mary", "roles": {"IO": "John"}},
        'role "IO" is the text "John", which does not occur',
    ),
    of_record("a role of no text", {"text": "Mary", "roles": {"IO": ""}}, 'role "IO" is '),
    of_record(
        "an occurrence not there",
        {"text": "Mary", "roles": {"IO": ["Mary", 2]}},
        'role "IO" is occurrence 2 of "Mary", but it occurs 1 times',
    ),
    of_record(
        "an occurrence of nought", {"text": "Mary", "roles": {"IO": ["Mary", 0]}}, 'role "IO" asks for occurrence 0'
    ),
    of_record(
        "an answer outside the vocabulary",
        {"tokens": [1], "answer": D_VOCAB},
        f"answer {D_VOCAB} is outside the model's vocabulary",
    ),
    of_record(
        "an answer of several tokens",
        {"tokens": [1], "answer": "Mary John"},
        'answer is the text "Mary John", which is not one token',
    ),
    of_record("an answer that is a list", {"tokens": [1], "answer": [1]}, "answer is [1]; give a token id"),
    of_file(
        "duplicate ids",
        [{"tokens": [1], "id": "a"}, {"tokens": [2], "id": "a"}],
        ' line 2: id "a" was used before, at p.jsonl line 1',
    ),
]
OF_SOURCES = [
    of_source("no such file", "gone.jsonl", "gone.jsonl: no such file; give a .jsonl"),
    of_source("no such kind", "iio:4", "iio:4: no such file; did you mean ioi:N[:SEED]?"),
    of_source("a table of commas", "p.csv", "p.csv: not a kind of file that holds prompts", {"p.csv": "text\nMary\n"}),
    of_source("no sentences", "ioi:0", "ioi: 0 prompts are asked for; give 1 or more"),
    of_source("negative sentences", "ioi:-4", "ioi:-4: expected ioi:N[:SEED] with whole numbers"),
    of_source(
        "sentences without end", "ioi:" + "9" * 5000, "ioi:999", also=("expected ioi:N[:SEED] with whole numbers",)
    ),
    of_source("sentences of digits that are none", "ioi:²", "ioi:²: expected ioi:N[:SEED] with whole numbers"),
    of_source(
        "words that the tokenizer lacks", "ioi:4", "ioi: ", also=(" are one token each ", "give prompts of your own")
    ),
    of_source("a length without end", "text:book.txt:" + "9" * 5000, "text:book.txt:999", {"book.txt": "Mary"}),
    of_source(
        "a length of nought", "text:book.txt:0", "book.txt: prompts of 0 tokens are asked for", {"book.txt": "Mary"}
    ),
    of_source(
        "a book too short",
        "text:book.txt:4",
        "book.txt: has 1 tokens, fewer than one prompt of 4",
        {"book.txt": "Mary"},
    ),
    of_source(
        "a book that is not UTF-8", "text:book.txt:4", "book.txt: not valid UTF-8 at byte 4", {"book.txt": b"Mary\xff"}
    ),
    of_source("a book that is no file", "text:model:4", "model: cannot be read (Is a directory)"),
    Case("an empty source", (*GIVEN, ""), "--prompts is empty; give a value, or leave it out"),
    of_source("a null character", "a\0.jsonl", "'a\\x00.jsonl': holds a null character"),
    of_source("a name too long", "x" * 300 + ".jsonl", "xxx", also=("too long for a file or folder; shorten it",)),
    Case(
        "standard input that is closed", (*GIVEN, "-"), "standard input: is closed; pipe prompts into it", before=closed
    ),
    Case("texts and no tokens", ("tokens", "--model", "model", "--text", ""), "text 1: the prompt has no tokens"),
    Case("nothing", ("tokens", "--model", "model"), "no prompts are given; give --prompts FILE"),
    Case(
        "a seed below nought",
        ("tokens", "--model", "model", "--text", "a", "--seed", "-1"),
        "--seed is -1; give 0 or more",
    ),
    Case(
        "the end of a text twice",
        ("tokens", "--model", "model", "--text", "Mary\udc80"),
        'text 1: "text" must be a string of valid Unicode',
    ),
]
CASES = [*FILES, *RECORDS, *OF_SOURCES]
