"""Readers given anything: their own errors alone come out, in bounded time and memory."""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpt2jax
from gpt2jax.errors import GPT2JaxError
from gpt2jax.tokenizer import Tokenizer
from hostile.refusals import sound_model
from svdtrace import prompts
from svdtrace.config import TraceConfig
from svdtrace.errors import SvdtraceError

SECONDS, MIB = 5.0, 256
QUICK, FULL = 10, 1000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HALVES = st.text(st.characters(categories=["Cs", "Cc", "Lu", "Nd"]), max_size=6)


def fuzzed(strategy: st.SearchStrategy[Any]) -> Callable[[Callable[[Any], None]], Any]:
    """A test of a few examples, the same each time, and one of many."""

    def decorate(check: Callable[[Any], None]) -> Any:
        @pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.full)])
        def test(many: bool) -> None:
            checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
            examples = {"max_examples": FULL if many else QUICK, "derandomize": not many, "database": None}
            settings(**examples, deadline=None, suppress_health_check=checks)(given(strategy)(check))()

        test.__doc__, test.__name__ = check.__doc__, check.__name__
        return test

    return decorate


@contextmanager
def bounded() -> Iterator[None]:
    """Only the project's own errors, within a time (of this process) and a memory that no small input needs."""
    began, held = time.process_time(), _most_held()
    with suppress(GPT2JaxError, SvdtraceError):
        yield
    assert time.process_time() - began < SECONDS
    assert _most_held() - held < MIB << 20


def _most_held() -> int:
    """The most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def model_folder(**files: bytes | None) -> Iterator[Path]:
    """The sound model with some files changed, added or (`None`) left out; `__` stands for a dot."""
    with tempfile.TemporaryDirectory() as place:
        for name, content in {**sound_model(), **{n.replace("__", "."): each for n, each in files.items()}}.items():
            if content is not None:
                (Path(place) / name).write_bytes(content)
        yield Path(place)


class Shown(bytes):
    """A file's content that is told by its beginning, since Hypothesis minds long ones."""

    def __repr__(self) -> str:
        return f"{bytes(self[:60])!r} … {len(self)} bytes"


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file with bytes changed, taken out, put in, or cut off."""
    place = st.integers(0, max(len(content) - 1, 0))

    def splice(at: int, length: int, put: bytes) -> bytes:
        return Shown(content[:at] + put + content[at + length :])

    early = st.integers(0, min(200, len(content) - 1))
    return st.builds(splice, place | early, st.integers(0, 16) | place, st.binary(max_size=12))


def header(content: bytes) -> dict[str, Any]:
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


@st.composite
def safetensors(draw: st.DrawFn) -> bytes:
    """A file whose header says something else of some tensors, or is of another length."""
    content = sound_model()["model.safetensors"]
    said, data = header(content), content[8 + int.from_bytes(content[:8], "little") :]
    for name in draw(st.lists(st.sampled_from(sorted(said)), max_size=3, unique=True)):
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "other"]))
        numbers = st.lists(st.integers(-2, 9) | st.integers(), max_size=4)
        said[name] = draw(st.just({**said[name], key: draw(numbers | JSON)}) | JSON)
    text = json.dumps(said).encode("utf-8", "surrogatepass")
    length = draw(st.just(len(text)) | st.integers(0, 2**64 - 1))
    return Shown(struct.pack("<Q", length) + text + data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


@fuzzed(damaged(sound_model()["model.safetensors"]) | safetensors() | st.binary(max_size=64))
def test_weights(content: bytes) -> None:
    with model_folder(model__safetensors=content) as folder, bounded():
        gpt2jax.load(folder)


@fuzzed(st.dictionaries(st.text(max_size=20), JSON, max_size=3) | JSON)
def test_indices(content: Any) -> None:
    index = json.dumps({"weight_map": content}).encode("utf-8", "surrogatepass")
    with model_folder(model__safetensors=None, model__safetensors__index__json=index) as folder, bounded():
        gpt2jax.load(folder)


CONFIG = json.loads(sound_model()["config.json"])
SWITCHES = [*CONFIG, "n_inner", "layer_norm_epsilon", "activation_function", "scale_attn_weights", "pruned_heads"]


@fuzzed(st.dictionaries(st.sampled_from([*SWITCHES, "tie_word_embeddings", "quantization_config"]), JSON, max_size=3))
def test_configurations(changes: dict[str, Any]) -> None:
    content = json.dumps(CONFIG | changes).encode("utf-8", "surrogatepass")
    with model_folder(config__json=content) as folder, bounded():
        gpt2jax.load(folder)


TOKENIZER = json.loads(sound_model()["tokenizer.json"])
NAMES = ["bos_token", "unk_token", "added_tokens_decoder", "extra_special_tokens", "tokenizer_class", "add_bos_token"]


@st.composite
def tokenizer_files(draw: st.DrawFn) -> dict[str, bytes | None]:
    """A tokenizer.json with parts replaced, or a vocabulary with merges; and settings beside it."""
    files: dict[str, bytes | None] = {}
    if draw(st.booleans()):
        parts = st.sampled_from(["model", "normalizer", "pre_tokenizer", "added_tokens", "decoder", "post_processor"])
        files["tokenizer__json"] = _bytes(TOKENIZER | draw(st.dictionaries(parts, JSON, max_size=2)))
    elif draw(st.booleans()):
        files["tokenizer__json"] = draw(damaged(sound_model()["tokenizer.json"]))
    else:
        files |= {"tokenizer__json": None, "merges__txt": draw(st.binary(max_size=30) | HALVES.map(_raw))}
        files["vocab__json"] = _bytes(draw(JSON | st.dictionaries(st.text(max_size=3), st.integers(-2, 300))))
    for name in draw(st.sets(st.sampled_from(["tokenizer_config__json", "special_tokens_map__json"]))):
        files[name] = _bytes(draw(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3)))
    return files


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _bytes(value: Any) -> bytes:
    return _raw(json.dumps(value))


@fuzzed(tokenizer_files())
def test_tokenizers(files: dict[str, bytes | None]) -> None:
    config = gpt2jax.GPT2Config.from_hf(CONFIG)
    with model_folder(**files) as folder, bounded():
        tokenizer = Tokenizer.read(folder, config)
        if tokenizer is not None:
            tokenizer.strings([0, 5, 10**9])
            tokenizer.decode(tokenizer.encode("Mary and \x00 Ünïcode 🤗"))


RECORD = st.fixed_dictionaries(
    {},
    optional={
        "text": st.text(max_size=12) | HALVES | JSON,
        "tokens": st.lists(st.integers(-2, 300) | st.integers() | st.floats(), max_size=20) | JSON,
        "roles": st.dictionaries(st.text(max_size=4) | HALVES, st.integers(-2, 9) | JSON, max_size=3) | JSON,
        "id": st.text(max_size=4) | HALVES | JSON,
        "answer": st.integers(-2, 300) | HALVES | JSON,
        "distractor": JSON,
        "other": JSON,
    },
)
LINES = st.lists(RECORD.map(_bytes) | JSON.map(_bytes) | st.binary(max_size=40), max_size=4).map(b"\n".join)


@fuzzed(LINES)
def test_prompt_files(content: bytes) -> None:
    read_prompts("p.jsonl", content)


@fuzzed(st.binary(max_size=200).map(lambda noise: b"PAR1" + noise + b"PAR1") | st.binary(max_size=60))
def test_parquet_files(content: bytes) -> None:
    read_prompts("p.parquet", content)


@fuzzed(st.lists(RECORD | JSON, max_size=3))
def test_records(records: list[Any]) -> None:
    """In Python the same as in files."""
    with bounded():
        prompts.from_records(records, sound_tokenizer(), config=gpt2jax.GPT2Config.from_hf(CONFIG))


def read_prompts(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        path.write_bytes(content)
        with bounded():
            prompts.read(str(path), sound_tokenizer(), config=gpt2jax.GPT2Config.from_hf(CONFIG))


@cache
def sound_tokenizer() -> Tokenizer:
    with model_folder() as folder:
        tokenizer = Tokenizer.read(folder, gpt2jax.GPT2Config.from_hf(CONFIG))
    assert tokenizer is not None
    return tokenizer


@fuzzed(st.dictionaries(st.sampled_from(sorted(TraceConfig().to_dict())), JSON, max_size=3))
def test_settings(content: dict[str, Any]) -> None:
    with bounded():
        TraceConfig.from_dict(content)


@fuzzed(st.text(max_size=40) | HALVES)
def test_sources(source: str) -> None:
    if source.startswith(("/", "~")) or os.sep in source or source == "-":
        return
    with bounded():
        prompts.read(source, sound_tokenizer())
