"""Weights that are damaged, not finite, missing or not where an index says: told in one line."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from checkpoints.folders import NUMPY_DTYPES, tensors, write_folder
from safetensors.numpy import load_file, save_file

import gpt2jax
from gpt2jax.errors import CheckpointError


class TestNotFinite:
    """A weight that is no number is an error where it comes in."""

    @pytest.mark.parametrize("dtype", NUMPY_DTYPES)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_tensor_and_count(self, tmp_path: Path, dtype: str, value: float):
        weights = tensors(dtype=dtype)
        weights["transformer.h.1.attn.c_attn.weight"][2, 3:5] = value
        weights["transformer.wpe.weight"][0, 0] = value
        write_folder(tmp_path, weights, n_shards=2)
        with pytest.raises(CheckpointError) as caught:
            gpt2jax.load(tmp_path)
        message = str(caught.value)
        assert "transformer.h.1.attn.c_attn.weight holds 2 values that are not finite (NaN or infinite)" in message
        assert "transformer.wpe.weight holds 1 value that is not finite" in message
        assert message.startswith(f"{tmp_path}/model.safetensors.index.json: ")

    def test_an_unembedding_of_its_own(self, tmp_path: Path):
        lm_head = tensors()["transformer.wte.weight"].copy()
        lm_head[0, 0] = np.nan
        write_folder(tmp_path, tensors() | {"lm_head.weight": lm_head})
        with pytest.raises(CheckpointError, match=r"lm_head\.weight holds 1 value that is not finite"):
            gpt2jax.load(tmp_path)

    def test_what_is_not_read_is_not_judged(self, tmp_path: Path):
        weights = tensors()
        weights["transformer.h.1.mlp.c_fc.weight"][0, 0] = np.nan
        gpt2jax.load(write_folder(tmp_path, weights), parts="heads")

    def test_large_is_finite(self, tmp_path: Path):
        weights = tensors()
        weights["transformer.wte.weight"][0, 0] = np.finfo(np.float32).max
        assert gpt2jax.load(write_folder(tmp_path, weights)).params.W_E[0, 0] == np.finfo(np.float32).max


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def endless_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def broken_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8:12] = b"nope"
    path.write_bytes(content)


def pickle_inside(path: Path) -> None:
    path.write_bytes(b"\x80\x02}q\x00." * 20)


def lfs_pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")


@pytest.mark.parametrize("damage", [truncate, empty, endless_header, broken_header, pickle_inside, lfs_pointer])
@pytest.mark.parametrize("n_shards", [None, 2])
def test_damaged_file(tmp_path: Path, damage, n_shards: int | None):
    write_folder(tmp_path, n_shards=n_shards)
    path = tmp_path / ("model.safetensors" if n_shards is None else "model-00002-of-00002.safetensors")
    damage(path)
    with pytest.raises(CheckpointError) as caught:
        gpt2jax.load(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert ("git lfs pull" if damage is lfs_pointer else "not a complete safetensors file") in message
    assert "\n" not in message


class TestFolders:
    """Folders without weights that can be read."""

    def config_alone(self, folder: Path) -> Path:
        write_folder(folder)
        (folder / "model.safetensors").unlink()
        return folder

    def test_no_weights(self, tmp_path: Path):
        with pytest.raises(CheckpointError, match=r"no model\.safetensors nor .*found config\.json"):
            gpt2jax.load(self.config_alone(tmp_path))

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "flax.ckpt"])
    def test_pickles_are_never_opened(self, tmp_path: Path, name: str):
        # It would be an error of another kind to open a folder.
        (self.config_alone(tmp_path) / name).mkdir()
        with pytest.raises(
            CheckpointError, match=f"holds {name} but no model.safetensors.*convert them to safetensors"
        ):
            gpt2jax.load(tmp_path)

    def test_missing_shard(self, tmp_path: Path):
        write_folder(tmp_path, n_shards=3)
        (tmp_path / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(CheckpointError, match=r"index\.json: names model-00002-of-00003\.safetensors, which"):
            gpt2jax.load(tmp_path)

    @pytest.mark.parametrize(
        "target",
        ["../model-00001-of-00002.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", "..", "", 3, None],
    )
    def test_index_that_points_elsewhere(self, tmp_path: Path, target: object):
        write_folder(tmp_path / "model", n_shards=2)
        shutil.copy(tmp_path / "model" / "model-00001-of-00002.safetensors", tmp_path)
        path = tmp_path / "model" / "model.safetensors.index.json"
        index = json.loads(path.read_text())
        index["weight_map"]["transformer.wte.weight"] = target
        path.write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=r"index\.json: weight_map sends 'transformer\.wte\.weight' to"):
            gpt2jax.load(tmp_path / "model")

    @pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": ["a"]}'])
    def test_index_without_a_map(self, tmp_path: Path, content: str):
        write_folder(tmp_path, n_shards=2)
        (tmp_path / "model.safetensors.index.json").write_text(content)
        with pytest.raises(CheckpointError, match="has no weight_map"):
            gpt2jax.load(tmp_path)

    def test_shard_that_lacks_what_the_index_promises(self, tmp_path: Path):
        weights = tensors()
        write_folder(tmp_path, weights, n_shards=2)
        index = (tmp_path / "model.safetensors.index.json").read_bytes()
        del weights["transformer.wpe.weight"]
        write_folder(tmp_path, weights, n_shards=2)
        (tmp_path / "model.safetensors.index.json").write_bytes(index)
        with pytest.raises(CheckpointError, match=r"missing wpe\.weight;"):
            gpt2jax.load(tmp_path)


def test_of_doubled_tensors_the_one_that_the_index_names(tmp_path: Path):
    weights = tensors()
    write_folder(tmp_path, weights, n_shards=2)
    name = "transformer.wte.weight"
    for shard in (1, 2):
        path = tmp_path / f"model-0000{shard}-of-00002.safetensors"
        save_file(load_file(path) | {name: weights[name] * shard}, path)
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    for shard in (1, 2):
        index["weight_map"][name] = f"model-0000{shard}-of-00002.safetensors"
        path.write_text(json.dumps(index))
        np.testing.assert_array_equal(gpt2jax.load(tmp_path).params.W_E, weights[name] * shard)
