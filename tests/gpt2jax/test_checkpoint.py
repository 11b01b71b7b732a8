"""Weights: every name, layout and dtype of Hugging Face's GPT-2; damage told in one line; memory."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints.folders import CONFIG, NUMPY_DTYPES, tensors, write_folder
from safetensors.numpy import load_file, save_file

import gpt2jax
from gpt2jax.checkpoint_names import TABLE, entries_for
from gpt2jax.errors import CheckpointError, InputError, MissingTensorsError

ROOT = Path(__file__).resolve().parents[2]
L, H, D, E, T, V = (CONFIG[key] for key in ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size"))


def expected_parameters(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Parameters by dotted name, cut out of the tensors index by index."""
    plain = {name.removeprefix("transformer."): np.asarray(tensor, np.float32) for name, tensor in weights.items()}
    h = D // H
    expected = {"W_E": plain["wte.weight"], "W_pos": plain["wpe.weight"]}
    expected |= {"ln_final.w": plain["ln_f.weight"], "ln_final.b": plain["ln_f.bias"]}
    straight = {
        "ln1.w": "ln_1.weight",
        "ln1.b": "ln_1.bias",
        "ln2.w": "ln_2.weight",
        "ln2.b": "ln_2.bias",
        "b_O": "attn.c_proj.bias",
        "W_in": "mlp.c_fc.weight",
        "b_in": "mlp.c_fc.bias",
        "W_out": "mlp.c_proj.weight",
        "b_out": "mlp.c_proj.bias",
    }
    for field, name in straight.items():
        expected[f"blocks.{field}"] = np.stack([plain[f"h.{layer}.{name}"] for layer in range(L)])
    for index, letter in enumerate("QKV"):
        W, b = np.empty((L, H, D, h), np.float32), np.empty((L, H, h), np.float32)
        for layer in range(L):
            for head in range(H):
                columns = range(index * D + head * h, index * D + (head + 1) * h)
                W[layer, head] = plain[f"h.{layer}.attn.c_attn.weight"][:, columns]
                b[layer, head] = plain[f"h.{layer}.attn.c_attn.bias"][columns]
        expected |= {f"blocks.W_{letter}": W, f"blocks.b_{letter}": b}
    W_O = np.empty((L, H, h, D), np.float32)
    for layer in range(L):
        for head in range(H):
            W_O[layer, head] = plain[f"h.{layer}.attn.c_proj.weight"][head * h : (head + 1) * h]
    return expected | {"blocks.W_O": W_O}


def parameters(model: gpt2jax.Model) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(model.params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("prefix", ["transformer.", ""])
@pytest.mark.parametrize("n_shards", [None, 3])
def test_reads_every_parameter_exactly(tmp_path: Path, dtype: str, prefix: str, n_shards: int | None):
    weights = tensors(dtype=dtype, prefix=prefix)
    model = gpt2jax.load(write_folder(tmp_path, weights, n_shards=n_shards))
    assert_same(parameters(model), expected_parameters(weights))


def test_table_names_what_hugging_face_names():
    config = gpt2jax.GPT2Config.from_hf(CONFIG)
    shapes = {name: entry.shape(config) for entry in TABLE for name in entry.names(config)}
    assert shapes == {name: tensor.shape for name, tensor in tensors(prefix="").items()} | {"lm_head.weight": (V, D)}


def test_old_causal_masks_are_ignored(tmp_path: Path):
    weights = tensors()
    masks = {f"transformer.h.{layer}.attn.bias": np.tri(T, dtype=bool)[None, None] for layer in range(L)}
    masks |= {f"transformer.h.{layer}.attn.masked_bias": np.float32(-1e4)[None] for layer in range(L)}
    assert_same(parameters(gpt2jax.load(write_folder(tmp_path, weights | masks))), expected_parameters(weights))


class TestUnembedding:
    """`lm_head.weight`: absent, a copy, its own."""

    def load(self, folder: Path, lm_head: np.ndarray | None, tied: bool | None) -> gpt2jax.Model:
        weights = tensors() if lm_head is None else tensors() | {"lm_head.weight": lm_head}
        config = CONFIG if tied is None else CONFIG | {"tie_word_embeddings": tied}
        return gpt2jax.load(write_folder(folder, weights, config))

    @pytest.mark.parametrize("tied", [None, True])
    def test_absent_or_equal_is_tied(self, tmp_path: Path, tied: bool | None):
        assert self.load(tmp_path / "absent", None, tied).params.W_U is None
        assert self.load(tmp_path / "equal", tensors()["transformer.wte.weight"], tied).params.W_U is None

    @pytest.mark.parametrize("tied", [None, True, False])
    def test_another_is_its_own(self, tmp_path: Path, tied: bool | None):
        lm_head = tensors()["transformer.wte.weight"].copy()
        lm_head[-1, -1] = np.nextafter(lm_head[-1, -1], np.float32(np.inf))
        np.testing.assert_array_equal(self.load(tmp_path, lm_head, tied).params.W_U, lm_head.T)

    def test_equal_but_said_to_be_untied(self, tmp_path: Path):
        lm_head = tensors()["transformer.wte.weight"]
        np.testing.assert_array_equal(self.load(tmp_path, lm_head, False).params.W_U, lm_head.T)

    def test_absent_but_said_to_be_untied(self, tmp_path: Path):
        with pytest.raises(CheckpointError, match=r"missing lm_head\.weight"):
            self.load(tmp_path, None, False)


class TestParts:
    """Only what is asked for is needed and read."""

    def test_heads_alone(self, tmp_path: Path):
        weights = tensors()
        heads = {name: tensor for name, tensor in weights.items() if ".ln_1." in name or ".attn." in name}
        model = gpt2jax.load(write_folder(tmp_path, heads), parts="heads")
        fields = ("ln1.w", "ln1.b", "W_Q", "b_Q", "W_K", "b_K", "W_V", "b_V", "W_O", "b_O")
        expected = expected_parameters(weights)
        assert_same(parameters(model), {f"blocks.{field}": expected[f"blocks.{field}"] for field in fields})

    def test_a_set_of_parts(self, tmp_path: Path):
        expected = expected_parameters(tensors())
        found = parameters(gpt2jax.load(write_folder(tmp_path), parts={"embed", "unembed"}))
        assert_same(found, {name: expected[name] for name in ("W_E", "W_pos", "ln_final.w", "ln_final.b")})

    @pytest.mark.parametrize("parts", ["head", {"heads", "tail"}, []])
    def test_unknown_part(self, parts: object):
        with pytest.raises(InputError, match="a model's parts are embed, heads, mlp, positions, unembed"):
            entries_for(parts)  # pyright: ignore[reportArgumentType]

    def test_folded_heads(self, tmp_path: Path):
        model = gpt2jax.load(write_folder(tmp_path), "folded", parts="heads")
        assert model.processing == "folded"
        assert model.params.blocks.ln1 is None


def changed(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """The tensors with some replaced, or left out (`None`); `__` stands for a dot."""
    weights = tensors(prefix="") | {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


ZERO = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (changed(wte__weight=None), ["missing wte.weight;"]),
        (changed(h__1__ln_2__bias=None), ["missing in layer 1 ln_2.bias;"]),
        (
            changed(wte__weight=None, **{f"h__{layer}__mlp__c_fc__weight": None for layer in range(L)}),
            ["missing wte.weight, and in all 3 layers mlp.c_fc.weight;", 'parts="heads"'],
        ),
        (changed(h__0__ln_1__bias=None, h__2__ln_1__bias=None), ["missing in layers 0, 2 ln_1.bias;"]),
        (changed(scores__weight=ZERO), ["unexpected scores.weight;"]),
        (changed(h__3__ln_1__weight=ZERO), ["unexpected in layer 3 ln_1.weight;"]),
        (changed(h__1__crossattention__c_attn__weight=ZERO), ["unexpected in layer 1 crossattention.c_attn.weight;"]),
        (changed(wpe__weight=ZERO), [f"mis-shaped wpe.weight (found [3, 2], expected [{T}, {D}]);"]),
        (
            changed(h__1__attn__c_attn__weight=np.zeros((D, D), np.float32)),
            [f"mis-shaped in layer 1 attn.c_attn.weight (found [{D}, {D}], expected [{D}, {3 * D}]);"],
        ),
        (
            changed(ln_f__bias=np.zeros(D, np.float64)),
            ["of a dtype other than F32, F16, BF16 ln_f.bias (F64); convert them to float32"],
        ),
        (changed(wpe__weight=np.zeros((T, D), np.int8)), ["wpe.weight (I8); dequantise them"]),
        (changed(h__0__attn__c_attn__SCB=ZERO), ["quantised weights, in layer 0 attn.c_attn.SCB; dequantise them"]),
        (
            changed(h__0__attn__c_attn__weight=None, h__0__attn__c_attn__qweight=ZERO),
            ["quantised weights, in layer 0 attn.c_attn.qweight; dequantise them"],
        ),
        (
            changed(
                h__0__attn__c_attn__weight=None,
                h__0__attn__c_attn__base_layer__weight=ZERO,
                h__0__attn__c_attn__lora_A__default__weight=ZERO,
            ),
            ["an adapter that is not merged into the weights, in layer 0", "lora_A.default.weight; merge it"],
        ),
        (
            changed(lm_head__weight=ZERO, lm_head__bias=np.zeros(V, np.float32)),
            ["lm_head.bias, but the LM head of a GPT-2 has no bias; ", "take it out if it is zero"],
        ),
        (changed(policy__wte__weight=ZERO), ['names stand after "", "policy.", as of several models;']),
        (
            changed(transformer__ln_f__bias=np.zeros(D, np.float32)),
            ["under two names ln_f.bias;"],
        ),
        (
            changed(wte__weight=None, wpe__weight=ZERO, extra=ZERO),
            ["missing wte.weight;", "unexpected extra;", "mis-shaped wpe.weight"],
        ),
    ],
)
@pytest.mark.parametrize("n_shards", [None, 2])
def test_all_differences_in_one_line(tmp_path: Path, weights: dict, expected: list[str], n_shards: int | None):
    write_folder(tmp_path, weights, n_shards=n_shards)
    with pytest.raises(CheckpointError) as caught:
        gpt2jax.load(tmp_path)
    message = str(caught.value)
    only_missing = expected[0].startswith("missing") and "unexpected extra;" not in expected
    assert isinstance(caught.value, MissingTensorsError) == only_missing
    assert message.startswith(f"{tmp_path}/model.safetensors")
    assert all(part in message for part in expected), message
    assert "\n" not in message


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


def test_a_body_without_unembedding_gives_all_but_logits(tmp_path: Path):
    config = CONFIG | {"architectures": ["GPT2Model"], "tie_word_embeddings": False}
    model = gpt2jax.load(write_folder(tmp_path / "a", tensors(prefix=""), config))
    assert model.origin.notes == ("there is no LM head and the embeddings are untied: it gives no logits",)
    whole = gpt2jax.load(write_folder(tmp_path / "b"))
    tap = "blocks.*.attn.hook_pattern"
    tokens = np.array([[1, 2, 3]], np.int32)
    out = gpt2jax.forward(model, tokens, taps=tap)
    assert out.logits is None
    np.testing.assert_array_equal(out.taps[tap], gpt2jax.forward(whole, tokens, taps=[tap]).taps[tap])
    parts = gpt2jax.residual_contributions(model, tokens)
    folded, ids = gpt2jax.fold(model), np.zeros(1, np.int32)
    for asked in (
        lambda: gpt2jax.generate(model, tokens, 1),
        lambda: gpt2jax.logit_direction(model, ids, ids),
        lambda: gpt2jax.logit_direction(folded, ids, ids),
        lambda: gpt2jax.logit_effects(model, parts, jnp.zeros(D)),
        lambda: gpt2jax.forward(model, tokens, taps="ln_final.hook_normalized"),
    ):
        with pytest.raises(CheckpointError, match="logits need an unembedding, but this model holds none"):
            asked()


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


def test_gpt2_small_as_at_hand(shared: Path):
    with pytest.raises(CheckpointError) as caught:
        gpt2jax.load(shared / "gpt2")
    missing = "missing wte.weight, and in all 12 layers mlp.c_fc.weight, mlp.c_proj.weight;"
    assert missing in str(caught.value)
    model = gpt2jax.load(shared / "gpt2", parts="heads")
    assert model.params.blocks.W_Q.shape == (12, 12, 768, 64)
    assert model.params.W_E is model.params.blocks.W_in is None


MEASURE = """
import sys
import gpt2jax, jax

def status(key):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key + ":"))

gpt2jax.load(sys.argv[1])
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
model = gpt2jax.load(sys.argv[2])
peak = status("VmHWM") - before
print(peak, sum(leaf.nbytes for leaf in jax.tree.leaves(model.params)))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc to reset the peak of memory")
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ("wide", "F32"),
        ("deep", "BF16"),
        pytest.param("wide", "BF16", marks=pytest.mark.full),
        pytest.param("deep", "F32", marks=pytest.mark.full),
    ],
)
def test_peak_memory(tmp_path: Path, dtype: str, shape: str):
    # Most of the one lies in stacked layers, most of the other in one tensor.
    sizes = {"n_embd": 384, "n_head": 6, "n_inner": 1536}
    sizes |= {"n_layer": 12, "vocab_size": 5000} if shape == "deep" else {"n_layer": 2, "vocab_size": 50000}
    weights = tensors(CONFIG | sizes, dtype)
    write_folder(tmp_path / "large", weights, CONFIG | sizes)
    largest = max(tensor.size for tensor in weights.values()) * 4
    del weights
    write_folder(tmp_path / "tiny")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "tiny"), str(tmp_path / "large")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    peak, loaded = map(int, done.stdout.split())
    assert loaded > 80e6
    assert peak <= 1.2 * loaded + largest, f"{peak / loaded:.3f} of the parameters' {loaded} bytes"
