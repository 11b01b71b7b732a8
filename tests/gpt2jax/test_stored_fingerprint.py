"""The fingerprint of a model on disk: that of the loaded model, whatever its files look like."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from checkpoints.folders import CONFIG, tensors, write_folder

import gpt2jax
from gpt2jax.errors import CheckpointError
from gpt2jax.stored_fingerprint import equal_values, stored_fingerprint
from gpt2jax.tensor_file import StoredTensor, open_tensor_file, read_tensor

HEAD = "lm_head.weight"


def untied() -> dict[str, np.ndarray]:
    weights = tensors()
    return weights | {HEAD: weights["transformer.wte.weight"][::-1].copy()}


def copied() -> dict[str, np.ndarray]:
    weights = tensors()
    return weights | {HEAD: weights["transformer.wte.weight"].copy()}


@pytest.mark.parametrize(
    ("weights", "config", "n_shards"),
    [
        (tensors(), {}, None),
        (tensors(dtype="F16", prefix=""), {}, 3),
        (tensors(dtype="BF16", prefix="_orig_mod.transformer."), {}, None),
        (copied(), {}, None),
        (copied(), {"tie_word_embeddings": False}, None),
        (untied(), {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-6}, 2),
        (tensors(), {"tie_word_embeddings": False, "architectures": ["GPT2Model"]}, None),
    ],
)
def test_it_is_that_of_the_loaded_model(tmp_path: Path, weights, config, n_shards):
    write_folder(tmp_path / "model", weights, CONFIG | config, n_shards)
    found = stored_fingerprint(tmp_path / "model")
    loaded = gpt2jax.load(tmp_path / "model")
    assert found.fingerprint == gpt2jax.fingerprint(loaded)
    assert found.n_weights == sum(np.size(each) for each in vars_of(loaded))


def vars_of(model: gpt2jax.Model) -> list[np.ndarray]:

    return [np.asarray(each) for each in jax.tree.leaves(model.params)]


def test_parts_alone_have_the_name_that_they_have_when_loaded_alone(tmp_path: Path):
    weights = {name: each for name, each in tensors().items() if ".attn." in name or ".ln_1." in name}
    write_folder(tmp_path / "model", weights)
    found = stored_fingerprint(tmp_path / "model", parts="heads")
    assert found.fingerprint == gpt2jax.fingerprint(gpt2jax.load(tmp_path / "model", parts="heads"))
    with pytest.raises(CheckpointError, match=r"missing .*wpe\.weight"):
        stored_fingerprint(tmp_path / "model")


def test_progress_reaches_its_end(tmp_path: Path):
    write_folder(tmp_path / "model")
    told: list[tuple[int, int]] = []
    found = stored_fingerprint(tmp_path / "model", advance=lambda *each: told.append(each))
    assert told[-1] == (len(found.parameters), len(found.parameters))


def test_values_that_are_not_finite_are_refused_as_they_are_when_loaded(tmp_path: Path):
    weights = tensors()
    weights["transformer.h.1.attn.c_attn.weight"][0, :3] = np.nan
    write_folder(tmp_path / "model", weights)
    messages = []
    for read in (gpt2jax.load, stored_fingerprint):
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / "model")
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "holds 3 values that are not finite" in messages[0]


def test_tensors_come_in_parts_that_are_the_whole(tmp_path: Path):
    write_folder(tmp_path / "model")
    stored = {each.name: each for each in open_tensor_file(tmp_path / "model" / "model.safetensors").tensors}
    for name, expected in tensors().items():
        parts = [read_tensor(each) for each in stored[name].chunks(n_values=20)]
        assert len(parts) == -(-expected.shape[0] // max(1, 20 // int(np.prod(expected.shape[1:]))))
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_empty_tensors_and_single_numbers_are_one_part():
    for shape in ((), (0, 3), (3, 0)):
        tensor = StoredTensor(Path("x"), "x", "F32", shape, 8)
        assert list(tensor.chunks()) == [tensor]


def test_equal_values_may_have_different_dtypes(tmp_path: Path):
    half = tensors(dtype="F16")
    write_folder(tmp_path / "a", half)
    write_folder(tmp_path / "b", {name: each.astype(np.float32) for name, each in half.items()})
    first, second = (
        {each.name: each for each in open_tensor_file(tmp_path / name / "model.safetensors").tensors} for name in "ab"
    )
    wte, wpe = "transformer.wte.weight", "transformer.wpe.weight"
    assert equal_values(first[wte], second[wte])
    assert not equal_values(first[wte], second[wpe])
