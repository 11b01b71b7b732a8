"""Weights under names and in layouts of others: what can be told apart is read, what cannot is named with a way out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from checkpoints.folders import CONFIG, tensors, write_folder
from checkpoints.parameters import assert_same, expected_parameters, parameters
from safetensors.numpy import load_file

import gpt2jax
from gpt2jax.errors import CheckpointError, MissingTensorsError

L, H, D, E, T, V = (CONFIG[key] for key in ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size"))
ZERO = np.zeros((3, 2), np.float32)


def as_linear(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The layers' matrices as torch.nn.Linear keeps them."""
    return {name: w.T.copy() if ".h." in name and w.ndim == 2 else w for name, w in weights.items()}


def without_biases(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: w for name, w in weights.items() if not name.endswith(".bias")}


LINEAR = "as torch.nn.Linear has them, [out, in], as in nanoGPT and minGPT, but GPT-2's are [in, out]: in all 3 layers"
NO_BIASES = "holds no biases (bias=False) ln_f.bias, and in all 3 layers attn.c_attn.bias,"
TRANSPOSE = "transpose attn.c_attn.weight, attn.c_proj.weight, mlp.c_fc.weight, mlp.c_proj.weight of every layer"
ZEROS = "add them as zeros, each as long as its weight's last axis"


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (as_linear(tensors()), [LINEAR, TRANSPOSE]),
        (without_biases(tensors()), [NO_BIASES, ZEROS]),
        (without_biases(as_linear(tensors())), [LINEAR, TRANSPOSE, NO_BIASES, ZEROS]),
        (as_linear(tensors(prefix="_orig_mod.transformer.")), [LINEAR, TRANSPOSE]),
    ],
)
def test_other_implementations_layouts_are_told_with_the_way_out(tmp_path: Path, weights: dict, expected: list[str]):
    write_folder(tmp_path, weights)
    with pytest.raises(CheckpointError) as caught:
        gpt2jax.load(tmp_path)
    message = str(caught.value)
    assert all(part in message for part in expected), message
    assert not any(word in message for word in ("missing", "unexpected", "mis-shaped", "complete checkpoint"))


class TestWrappers:
    """Names under what wraps a model."""

    @pytest.mark.parametrize("n_shards", [None, 2])
    @pytest.mark.parametrize(
        "prefix",
        [
            "_orig_mod.transformer.",
            "module.transformer.",
            "base_model.model.transformer.",
            "pretrained_model.transformer.",
            "module._orig_mod.transformer.",
            "transformer._orig_mod.",
            "backbone.",
            "a.b.",
        ],
    )
    def test_a_common_prefix_is_stripped_and_written_back(self, tmp_path: Path, prefix: str, n_shards: int | None):
        weights = tensors(prefix=prefix)
        # Beside the body a head may have a part of the prefix, or none.
        weights[f"{prefix.removesuffix('transformer.')}lm_head.weight"] = weights[f"{prefix}wte.weight"] * 2
        model = gpt2jax.load(write_folder(tmp_path / "a", weights, n_shards=n_shards))
        usual = {name.removeprefix(prefix): tensor for name, tensor in tensors(prefix=prefix).items()}
        assert_same(parameters(model), expected_parameters(usual) | {"W_U": usual["wte.weight"].T * 2})
        front = prefix.removesuffix("transformer.")
        assert model.origin.notes == (f'the tensors\' names bear the prefix "{front}", which is stripped',)
        gpt2jax.save(model, tmp_path / "b")
        for path in (tmp_path / "a").iterdir():
            assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()

    def test_wrapped_blocks(self, tmp_path: Path):
        weights = {re.sub(r"(\.h\.\d+\.)", r"\1_orig_mod.", name): tensor for name, tensor in tensors().items()}
        model = gpt2jax.load(write_folder(tmp_path / "a", weights))
        assert_same(parameters(model), expected_parameters(tensors()))
        assert model.origin.notes == ('the tensors\' names bear "_orig_mod." of wrappers, which is stripped',)
        gpt2jax.save(model, tmp_path / "b")
        assert load_file(tmp_path / "b" / "model.safetensors").keys() == weights.keys()

    def test_nothing_is_said_of_usual_names(self, tmp_path: Path):
        for prefix in ("", "transformer."):
            model = gpt2jax.load(write_folder(tmp_path / f"a{prefix}", tensors(prefix=prefix)))
            assert model.origin.notes == ()


@pytest.mark.parametrize("n_shards", [None, 2])
@pytest.mark.parametrize("name", ["lm_head.weight", "transformer.lm_head.weight", "_orig_mod.lm_head.weight"])
def test_a_tied_pair_under_the_name_of_the_unembedding(tmp_path: Path, name: str, n_shards: int | None):
    prefix = "_orig_mod.transformer." if name.startswith("_orig") else "transformer."
    weights = tensors(prefix=prefix)
    usual = expected_parameters({each.removeprefix("_orig_mod."): tensor for each, tensor in weights.items()})
    weights[name] = weights.pop(f"{prefix}wte.weight")
    folder = write_folder(tmp_path / "a", weights, n_shards=n_shards)
    model = gpt2jax.load(folder)
    assert_same(parameters(model), usual)
    assert_same(parameters(gpt2jax.load(folder, parts="embed")), {each: usual[each] for each in ("W_E", "W_pos")})
    gpt2jax.save(model, tmp_path / "b")
    for path in folder.iterdir():
        assert (tmp_path / "b" / path.name).read_bytes() == path.read_bytes()
    # Untied, both are there under names of their own.
    params = model.params.replace(W_U=model.params.W_E.T * 2)
    gpt2jax.save(model.replace(params=params), tmp_path / "c")
    assert_same(parameters(gpt2jax.load(tmp_path / "c")), usual | {"W_U": usual["W_E"].T * 2})


def test_an_untied_pair_needs_both(tmp_path: Path):
    weights = tensors()
    weights["lm_head.weight"] = weights.pop("transformer.wte.weight")
    write_folder(tmp_path, weights, CONFIG | {"tie_word_embeddings": False})
    with pytest.raises(MissingTensorsError, match=r"missing wte\.weight;"):
        gpt2jax.load(tmp_path)


@pytest.mark.parametrize(
    ("architecture", "heads"),
    [
        ("GPT2ForSequenceClassification", ["score.weight"]),
        ("GPT2ForTokenClassification", ["classifier.weight", "classifier.bias"]),
        ("GPT2ForQuestionAnswering", ["qa_outputs.weight", "qa_outputs.bias"]),
        ("GPT2DoubleHeadsModel", ["multiple_choice_head.summary.weight", "multiple_choice_head.summary.bias"]),
        ("GPT2LMHeadModel", ["v_head.summary.weight", "v_head.summary.bias"]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_other_heads_are_left_out_and_named(tmp_path: Path, architecture: str, heads: list[str], prefix: str):
    extra = {prefix + name: ZERO for name in heads}
    config = CONFIG | {"architectures": [architecture]}
    model = gpt2jax.load(write_folder(tmp_path, tensors(prefix=f"{prefix}transformer.") | extra, config))
    assert_same(parameters(model), expected_parameters(tensors()))
    assert model.origin.notes[-1] == f"{', '.join(sorted(extra))} of another head: left out"
