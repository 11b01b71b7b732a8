"""Decompositions on disk, and the cache that answers from them."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import gpt2jax
from gpt2jax.fingerprint import fingerprint
from svdtrace.config import TraceConfig
from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.method.decomposition import Decomposition, decompose
from svdtrace.results import decompositions
from svdtrace.results.decompositions import cached_decompose, read, write
from svdtrace.tracing.trace import prepare_cached

CONFIG = gpt2jax.GPT2Config(n_layers=1, n_heads=4, d_model=16, d_mlp=4, n_ctx=4, d_vocab=5)


@pytest.fixture(scope="module")
def model() -> gpt2jax.Model:
    return gpt2jax.random_model(CONFIG, jax.random.key(0), std=0.5, biases=0.2)


@pytest.fixture(scope="module")
def parts(model: gpt2jax.Model) -> Decomposition:
    return decompose(model)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SVDTRACE_CACHE", str(tmp_path))
    return tmp_path / "decompositions"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[gpt2jax.Model]:
    """Models decomposed rather than answered from the cache."""
    made: list[gpt2jax.Model] = []

    def counted(model: gpt2jax.Model) -> Decomposition:
        made.append(model)
        return decompose(model)

    monkeypatch.setattr(decompositions, "decompose", counted)
    return made


def equal(one: Decomposition, other: Decomposition) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in "USV")


def test_what_is_written_is_read(tmp_path: Path, parts: Decomposition) -> None:
    """Catches arrays under each other's names, another dtype, and a fingerprint that is lost."""
    path = tmp_path / "new" / "decomposition.safetensors"
    write(path, parts, "abc")
    again, of_model = read(path)
    assert equal(again, parts)
    assert of_model == "abc"
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    with safe_open(str(path), framework="numpy") as file:
        assert file.metadata()["fingerprint"] == "abc"
        assert {name: file.get_tensor(name).shape for name in file.keys()} == {  # noqa: SIM118
            "U": (1, 4, 17, 4),
            "S": (1, 4, 4),
            "V": (1, 4, 17, 4),
        }


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(content[:-7])
    elif how == "bit":
        content[-5] ^= 1
        path.write_bytes(content)
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "swapped":
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata()
        arrays = load_file(str(path))
        save_file({"U": arrays["V"], "S": arrays["S"], "V": arrays["U"]}, str(path), metadata=metadata)
    else:
        save_file({"S": np.zeros(2, np.float32)}, str(path))


DAMAGES = ["cut", "bit", "empty", "swapped", "foreign"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_file_is_refused(tmp_path: Path, parts: Decomposition, how: str) -> None:
    """Catches a file that is believed because it opens."""
    path = tmp_path / "decomposition.safetensors"
    write(path, parts, "abc")
    damaged(path, how)
    with pytest.raises(TraceFolderError, match=r"decomposition\.safetensors"):
        read(path)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_cache_is_made_anew(
    cache: Path, calls: list, model: gpt2jax.Model, parts: Decomposition, how: str
) -> None:
    """Catches a cache that answers with damaged numbers, or that fails for good."""
    cached_decompose(model, "key")
    damaged(cache / "key.safetensors", how)
    assert equal(cached_decompose(model, "key"), parts)
    assert len(calls) == 2
    assert equal(cached_decompose(model, "key"), parts)
    assert len(calls) == 2


def test_the_cache_answers(cache: Path, calls: list, model: gpt2jax.Model, parts: Decomposition) -> None:
    assert equal(cached_decompose(model, "key"), parts)
    assert equal(cached_decompose(model, "key"), parts)
    assert len(calls) == 1


def test_the_cache_keeps_within_its_bound(
    cache: Path, calls: list, model: gpt2jax.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a cache that only grows, or that throws out what was just used."""
    for key in ("one", "two", "three"):
        cached_decompose(model, key)
    cached_decompose(model, "one")
    size = (cache / "one.safetensors").stat().st_size
    monkeypatch.setenv("SVDTRACE_CACHE_GB", str(2.5 * size / 1e9))
    cached_decompose(model, "four")
    assert {each.stem for each in cache.iterdir()} == {"one", "four"}
    monkeypatch.setenv("SVDTRACE_CACHE_GB", "0")
    cached_decompose(model, "five")
    assert {each.stem for each in cache.iterdir()} == {"five"}
    assert len(calls) == 5


def test_a_file_of_another_model_is_no_answer(
    cache: Path, calls: list, model: gpt2jax.Model, parts: Decomposition
) -> None:
    """Catches trust in the file's name: a file that was moved or copied says itself whose it is."""
    write(cache / "key.safetensors", parts.replace(S=parts.S * 2), "another")
    assert equal(cached_decompose(model, "key"), parts)
    assert len(calls) == 1


def test_the_key_is_of_the_weights(cache: Path, calls: list, model: gpt2jax.Model) -> None:
    """Catches a cache that goes by a name or by shapes: one weight changed is another model, raw is not folded."""
    blocks = model.params.blocks
    changed = model.replace(params=model.params.replace(blocks=blocks.replace(b_K=blocks.b_K.at[0, 0, 0].add(1e-3))))
    assert fingerprint(model) != fingerprint(changed)
    ready = [prepare_cached(each, TraceConfig()) for each in (model, changed)]
    assert len(calls) == 2
    assert not jnp.array_equal(ready[0].decomposition.S, ready[1].decomposition.S)
    prepare_cached(model, TraceConfig(processing="raw"))
    assert len(calls) == 3
    same = model.replace(tokenizer=object(), layout=None)
    assert equal(prepare_cached(same, TraceConfig()).decomposition, ready[0].decomposition)
    assert len(calls) == 3
    assert all(fingerprint(model) in each.name or fingerprint(changed) in each.name for each in cache.iterdir())


def test_no_cache_is_no_error(
    tmp_path: Path, calls: list, model: gpt2jax.Model, parts: Decomposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a trace that fails since its cache cannot be written."""
    (tmp_path / "file").write_text("no folder")
    for place in ("", str(tmp_path / "file")):
        monkeypatch.setenv("SVDTRACE_CACHE", place)
        assert equal(cached_decompose(model, "key"), parts)
    assert len(calls) == 2
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path / "file" / "decomposition.safetensors", parts, "abc")
