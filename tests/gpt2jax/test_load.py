"""`load` and `save`: what comes back is what went in."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints.folders import CONFIG, NUMPY_DTYPES, tensors, write_folder
from safetensors import safe_open
from safetensors.numpy import load_file

import gpt2jax
from gpt2jax.errors import CheckpointError, ConfigError, GPT2JaxError, OutputError, ProcessingError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def same(found: gpt2jax.Params, expected: gpt2jax.Params) -> bool:
    if jax.tree.structure(found) != jax.tree.structure(expected):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return all(np.array_equal(left, right) for left, right in pairs)


@pytest.fixture
def random(tmp_path_factory: pytest.TempPathFactory) -> gpt2jax.Model:
    """A model that remembers no files."""
    return gpt2jax.load(write_folder(tmp_path_factory.mktemp("random"))).replace(layout=None)


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("n_shards", [None, 3])
@pytest.mark.parametrize("lm_head", ["absent", "copy", "own"])
def test_saved_bit_for_bit(tmp_path: Path, dtype: str, prefix: str, n_shards: int | None, lm_head: str):
    weights = tensors(dtype=dtype, prefix=prefix)
    if lm_head != "absent":
        weights["lm_head.weight"] = weights[f"{prefix}wte.weight"] * (1 if lm_head == "copy" else 2)
    write_folder(tmp_path / "a", weights, n_shards=n_shards, metadata={"format": "pt"})
    (tmp_path / "a" / "tokenizer_config.json").write_text('{"odd":  1}')
    gpt2jax.save(gpt2jax.load(tmp_path / "a"), tmp_path / "b")
    written = contents(tmp_path / "b")
    # A tokenizer_config.json alone is no tokenizer.
    expected = {name: content for name, content in contents(tmp_path / "a").items() if "tokenizer" not in name}
    assert written == expected


def test_tokenizer_files_and_mixed_dtypes(tmp_path: Path, shared: Path):
    weights = {
        name: tensor.astype(NUMPY_DTYPES[dtype])
        for (name, tensor), dtype in zip(tensors().items(), ["F32", "F16", "BF16"] * 20, strict=False)
    }
    write_folder(tmp_path / "a", weights, metadata={"format": "pt"})
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tmp_path / "a" / name).write_bytes((shared / "gpt2" / name).read_bytes())
    gpt2jax.save(gpt2jax.load(tmp_path / "a"), tmp_path / "b")
    assert contents(tmp_path / "b") == contents(tmp_path / "a")


def test_every_finite_float16_and_bfloat16_survives(tmp_path: Path):
    config = CONFIG | {"vocab_size": 65536 // CONFIG["n_embd"]}
    for dtype in ("F16", "BF16"):
        weights = tensors(config, dtype)
        every = np.arange(65536, dtype=np.uint16).view(NUMPY_DTYPES[dtype])
        numbers = np.where(np.isfinite(every.astype(np.float32)), every.astype(np.float32), np.float32(1))
        weights["transformer.wte.weight"] = numbers.astype(NUMPY_DTYPES[dtype]).reshape(-1, CONFIG["n_embd"])
        write_folder(tmp_path / dtype, weights, config)
        gpt2jax.save(gpt2jax.load(tmp_path / dtype), tmp_path / f"{dtype}-again")
        assert contents(tmp_path / f"{dtype}-again") == contents(tmp_path / dtype)


def test_causal_masks_are_left_out(tmp_path: Path):
    masks = {f"transformer.h.{layer}.attn.bias": np.ones((1, 1, 7, 7), np.uint8) for layer in range(3)}
    write_folder(tmp_path / "masked", tensors() | masks, n_shards=2)
    gpt2jax.save(gpt2jax.load(tmp_path / "masked"), tmp_path / "saved")
    weight_map = json.loads((tmp_path / "saved" / "model.safetensors.index.json").read_text())["weight_map"]
    assert weight_map.keys() == tensors().keys()
    for name, tensor in tensors().items():
        np.testing.assert_array_equal(load_file(tmp_path / "saved" / weight_map[name])[name], tensor)
    gpt2jax.load(tmp_path / "saved")


def test_made_in_python(tmp_path: Path, random: gpt2jax.Model):
    gpt2jax.save(random, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == {n: t.shape for n, t in tensors().items()}
    assert {tensor.dtype for tensor in found.values()} == {np.dtype(np.float32)}
    with safe_open(tmp_path / "model" / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    again = gpt2jax.load(tmp_path / "model")
    assert again.config == random.config
    assert same(again.params, random.params)


def test_made_in_python_with_an_unembedding_of_its_own(tmp_path: Path, random: gpt2jax.Model):
    params = random.params.replace(W_U=random.params.W_E.T + 0)
    gpt2jax.save(random.replace(params=params), tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["tie_word_embeddings"] is False
    np.testing.assert_array_equal(gpt2jax.load(tmp_path / "model").params.W_U, params.W_U)


def test_changed_after_loading(tmp_path: Path):
    write_folder(tmp_path / "a", tensors(dtype="F16"), CONFIG | {"note": "mine"})
    model = gpt2jax.load(tmp_path / "a")
    other = gpt2jax.GPT2Config(**{**vars(model.config), "layer_norm_epsilon": 1e-6})
    params = model.params.replace(W_E=model.params.W_E * 2, W_U=model.params.W_E.T)
    gpt2jax.save(model.replace(config=other, params=params), tmp_path / "b")
    raw = json.loads((tmp_path / "b" / "config.json").read_text())
    assert (raw["layer_norm_epsilon"], raw["note"], raw["tie_word_embeddings"]) == (1e-6, "mine", False)
    again = gpt2jax.load(tmp_path / "b")
    assert again.config == other
    assert {tensor.dtype for tensor in again.layout.files[0].tensors} == {"F16", "F32"}
    assert same(again.params, params)


class TestRefusals:
    """What cannot be saved, and where."""

    def test_folded(self, tmp_path: Path):
        model = gpt2jax.load(write_folder(tmp_path / "a"), processing="folded")
        with pytest.raises(ProcessingError, match="the model is folded, but a checkpoint holds raw weights"):
            gpt2jax.save(model, tmp_path / "b")
        assert not (tmp_path / "b").exists()

    def test_partial(self, tmp_path: Path):
        model = gpt2jax.load(write_folder(tmp_path / "a"), parts="heads")
        with pytest.raises(CheckpointError, match="W_E: absent"):
            gpt2jax.save(model, tmp_path / "b")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_too_large_for_the_dtype(self, tmp_path: Path):
        model = gpt2jax.load(write_folder(tmp_path / "a", tensors(dtype="F16")))
        model = model.replace(params=model.params.replace(W_pos=model.params.W_pos.at[0, 0].set(-1e5)))
        with pytest.raises(CheckpointError, match=r"wpe\.weight: holds 100000, which F16"):
            gpt2jax.save(model, tmp_path / "b")
        gpt2jax.save(model.replace(layout=None), tmp_path / "b")
        assert gpt2jax.load(tmp_path / "b").params.W_pos[0, 0] == -1e5

    def test_sizes_that_contradict(self, tmp_path: Path, random: gpt2jax.Model):
        params = random.params.replace(W_pos=random.params.W_pos[1:])
        with pytest.raises(CheckpointError, match="W_pos: shape \\(6, 8\\), but the configuration says \\(7, 8\\)"):
            gpt2jax.save(random.replace(params=params), tmp_path / "b")

    def test_unembedding_bias(self, tmp_path: Path, random: gpt2jax.Model):
        with pytest.raises(CheckpointError, match="b_U"):
            gpt2jax.save(random.replace(params=random.params.replace(b_U=jnp.zeros(11))), tmp_path / "b")

    def test_folder_in_use(self, tmp_path: Path, random: gpt2jax.Model):
        (tmp_path / "mine").write_text("mine")
        for folder in (tmp_path, tmp_path / "mine"):
            with pytest.raises(OutputError, match="exists and is not an empty folder"):
                gpt2jax.save(random, folder)
        with pytest.raises(OutputError, match="cannot be written"):
            gpt2jax.save(random, tmp_path / "mine" / "below")
        assert contents(tmp_path) == {"mine": b"mine"}

    def test_empty_folder_is_filled(self, tmp_path: Path, random: gpt2jax.Model):
        gpt2jax.save(random, tmp_path)
        assert gpt2jax.load(tmp_path).config == random.config

    def test_nothing_half_written(self, tmp_path: Path, random: gpt2jax.Model, monkeypatch: pytest.MonkeyPatch):
        def fail(self: Path, target: Path) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "replace", fail)
        with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
            gpt2jax.save(random, tmp_path / "model")
        assert list(tmp_path.iterdir()) == []


def test_folded_on_loading(tmp_path: Path):
    write_folder(tmp_path)
    model = gpt2jax.load(tmp_path, processing="folded")
    expected = gpt2jax.fold(gpt2jax.load(tmp_path))
    assert model.processing == "folded"
    assert same(model.params, expected.params)
    with pytest.raises(ProcessingError, match="processing is 'flat', expected raw or folded"):
        gpt2jax.load(tmp_path, processing="flat")


def test_without_a_tokenizer(tmp_path: Path):
    assert gpt2jax.load(write_folder(tmp_path)).tokenizer is None


@pytest.mark.parametrize("config", [b"{", b'{"n_layer": 3}', None])
def test_bad_config_names_its_file(tmp_path: Path, config: bytes | None):
    write_folder(tmp_path)
    (tmp_path / "config.json").unlink()
    if config is not None:
        (tmp_path / "config.json").write_bytes(config)
    with pytest.raises(ConfigError, match=f"{tmp_path}/config.json"):
        gpt2jax.load(tmp_path)


def test_loaded_alike_is_compiled_once(tmp_path: Path):
    first, second = gpt2jax.load(write_folder(tmp_path)), gpt2jax.load(tmp_path)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    count = 0

    @jax.jit
    def total(model: gpt2jax.Model) -> jax.Array:
        nonlocal count
        count += 1
        return jnp.sum(model.params.W_E)

    assert total(first) == total(second)
    assert count == 1


def test_errors_are_one_family():
    assert all(issubclass(error, GPT2JaxError) for error in (CheckpointError, ConfigError, OutputError))
