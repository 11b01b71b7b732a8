"""`config.json`: what is honoured, what is refused by name."""

from __future__ import annotations

import json

import pytest
from checkpoints.folders import CONFIG

from gpt2jax import GPT2Config
from gpt2jax.activations import ACTIVATIONS
from gpt2jax.config import WITH_LM_HEAD, WITHOUT_LM_HEAD, is_tied, lacks_lm_head
from gpt2jax.errors import ConfigError
from gpt2jax.json_file import parse_json, read_bytes

# Radford et al. 2019, table 2, and the released config.json files
RELEASED = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}


def read(**changes: object) -> GPT2Config:
    raw = {key: value for key, value in (CONFIG | changes).items() if value is not ...}
    return GPT2Config.from_hf(raw, "some/config.json")


@pytest.mark.parametrize("name", RELEASED)
def test_released_sizes_by_configuration_alone(name: str):
    n_layer, n_head, n_embd = RELEASED[name]
    raw = {"model_type": "gpt2", "n_layer": n_layer, "n_head": n_head, "n_embd": n_embd, "n_ctx": 1024}
    config = GPT2Config.from_hf(raw | {"n_positions": 1024, "vocab_size": 50257}, name)
    assert (config.n_layers, config.n_heads, config.d_model, config.d_head) == (n_layer, n_head, n_embd, 64)
    assert (config.d_mlp, config.n_ctx, config.d_vocab) == (4 * n_embd, 1024, 50257)
    assert (config.activation, config.layer_norm_epsilon) == ("gelu_new", 1e-5)
    assert (config.scale_attn_weights, config.scale_attn_by_inverse_layer_idx) == (True, False)
    assert config.bos_token_id == config.eos_token_id == 50256


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"n_inner": 20}, "d_mlp", 20),
        ({"n_inner": None}, "d_mlp", 32),
        ({"n_inner": ...}, "d_mlp", 32),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon", 1e-6),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon", 0.0),
        ({"scale_attn_weights": False}, "scale_attn_weights", False),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx", True),
        ({"reorder_and_upcast_attn": True}, "n_layers", 3),
        ({"n_positions": ..., "n_ctx": 9}, "n_ctx", 9),
        ({"n_positions": 7, "n_ctx": 9}, "n_ctx", 7),
        ({"n_layer": ..., "num_hidden_layers": 5}, "n_layers", 5),
        ({"n_embd": ..., "hidden_size": 6}, "d_model", 6),
        ({"n_embd": 8, "hidden_size": 8}, "d_model", 8),
        ({"n_head": ..., "num_attention_heads": 4}, "n_heads", 4),
        ({"bos_token_id": 50256}, "bos_token_id", None),
        ({"bos_token_id": ...}, "bos_token_id", None),
        ({"bos_token_id": None}, "bos_token_id", None),
        ({"eos_token_id": [9, 10]}, "eos_token_id", 9),
        ({"architectures": ["GPT2Model"]}, "n_layers", 3),
        ({"activation_function": "some_kernel"}, "activation", "some_kernel"),
        ({"architectures": None, "model_type": ...}, "n_layers", 3),
        ({"pruned_heads": {}, "add_cross_attention": False, "quantization_config": None}, "n_layers", 3),
        ({"resid_pdrop": 0.3, "use_cache": False, "torch_dtype": "float16", "is_decoder": True}, "n_layers", 3),
    ],
)
def test_honoured(changes: dict, field: str, expected: object):
    assert getattr(read(**changes), field) == expected


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str):
    assert read(activation_function=activation).activation == activation


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"n_layer": ...}, "lacks n_layer"),
        ({"n_layer": ..., "vocab_size": None, "n_positions": ...}, "lacks n_layer, n_positions, vocab_size"),
        ({"n_layer": -3}, "n_layer is -3"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_layer": 10**9}, "n_layer is 1000000000"),
        ({"n_head": 2.0}, "n_head is 2.0"),
        ({"n_head": True}, "n_head is true"),
        ({"n_embd": "8"}, 'n_embd is "8"'),
        ({"n_head": 3}, "n_embd 8 is not a multiple of n_head 3"),
        ({"vocab_size": 2**31}, "vocab_size is 2147483648"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"n_embd": 8, "hidden_size": 16}, "hidden_size is 16"),
        ({"layer_norm_epsilon": -1e-5}, "layer_norm_epsilon is -1e-05"),
        ({"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon is NaN"),
        ({"layer_norm_epsilon": "1e-5"}, 'layer_norm_epsilon is "1e-5"'),
        ({"activation_function": ["relu"]}, 'activation_function is ["relu"]'),
        ({"scale_attn_weights": "no"}, 'scale_attn_weights is "no"'),
        ({"scale_attn_by_inverse_layer_idx": 1}, "scale_attn_by_inverse_layer_idx is 1"),
        ({"model_type": "gpt_neo"}, 'model_type is "gpt_neo"'),
        ({"architectures": ["GPT2ForEverything"]}, 'architectures is ["GPT2ForEverything"]'),
        ({"architectures": "GPT2LMHeadModel"}, "architectures is"),
        ({"add_cross_attention": True}, "add_cross_attention is true"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is true"),
        ({"is_causal": False}, "is_causal is false"),
        ({"quantization_config": {"bits": 4}}, 'quantization_config is {"bits": 4}, but quantised weights are not'),
        ({"quantization_config": {"quant_method": "fp8"}}, "dequantise them (in transformers: model.dequantize()"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
    ],
)
def test_refused_by_name(changes: dict, expected: str):
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    message = str(caught.value)
    assert message.startswith("some/config.json: ")
    assert expected in message
    assert "\n" not in message


def test_to_hf_and_back():
    config = read(n_inner=20, layer_norm_epsilon=3e-7, activation_function="relu", scale_attn_weights=False)
    assert GPT2Config.from_hf(json.loads(json.dumps(config.to_hf()))) == config


def test_architectures_without_an_lm_head():
    assert all(lacks_lm_head({"architectures": [name]}) for name in WITHOUT_LM_HEAD)
    assert not any(lacks_lm_head({"architectures": each}) for each in (None, [], *([name] for name in WITH_LM_HEAD)))


def test_tied_unless_said_otherwise():
    assert is_tied({}, "")
    assert not is_tied({"tie_word_embeddings": False}, "")
    with pytest.raises(ConfigError, match="tie_word_embeddings is 0, expected true or false"):
        is_tied({"tie_word_embeddings": 0}, "")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{\n "n_layer": 3\n "n_head": 2}', "config.json line 3: not JSON"),
        (b"", "config.json line 1: not JSON"),
        (b"[1, 2]", "expected a JSON object, found a list"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_damaged_json_names_the_place(content: bytes, expected: str):
    with pytest.raises(ConfigError) as caught:
        parse_json(content, "config.json", ConfigError)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"config.json: no such file; look elsewhere"):
        read_bytes(tmp_path / "config.json", ConfigError, "look elsewhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_bytes(tmp_path, ConfigError, "")
