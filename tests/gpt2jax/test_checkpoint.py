"""Weights: every name, layout and dtype of Hugging Face's GPT-2; damage told in one line; memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from checkpoints.folders import CONFIG, tensors, write_folder
from checkpoints.parameters import assert_same, expected_parameters, parameters

import gpt2jax
from gpt2jax.checkpoint_names import TABLE, entries_for
from gpt2jax.errors import CheckpointError, InputError, MissingTensorsError

ROOT = Path(__file__).resolve().parents[2]
L, H, D, E, T, V = (CONFIG[key] for key in ("n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size"))


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
