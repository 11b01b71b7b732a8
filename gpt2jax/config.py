"""The configuration of a GPT-2, read from Hugging Face's `config.json`.

`SIZES`, `SWITCHES` and `REFUSED` list once what is read and what is refused; keys that do not change what a forward
pass computes (dropout, `summary_*`, `use_cache`, `n_ctx` beside `n_positions`, …) are left to whoever wrote them.
`reorder_and_upcast_attn` is accepted: it only says in which order and precision Hugging Face forms a product that is
formed in float32 here anyway.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt2jax.errors import ConfigError

DEQUANTISE = "dequantise them (in transformers: model.dequantize().float().save_pretrained(NEW))"
_INT32_MAX = 2**31 - 1
_LARGEST = sys.float_info.max

# field, keys in order of preference (Hugging Face's own, then its aliases), largest value
SIZES: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("n_layers", ("n_layer", "num_hidden_layers"), 10_000),
    ("n_heads", ("n_head", "num_attention_heads"), 1_000_000),
    ("d_model", ("n_embd", "hidden_size"), 10_000_000),
    ("n_ctx", ("n_positions", "max_position_embeddings", "n_ctx"), _INT32_MAX),
    ("d_vocab", ("vocab_size",), _INT32_MAX),
)
# key (and field), what Hugging Face computes without it
SWITCHES: tuple[tuple[str, bool], ...] = (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False))
# key, the one harmless value beside null and absence, what is not supported, the way out
REFUSED: tuple[tuple[str, Any, str, str], ...] = (
    ("add_cross_attention", False, "cross-attention is", "give a model without"),
    ("is_encoder_decoder", False, "an encoder is", "give a model without"),
    ("is_causal", True, "attention to later tokens is", "give a causal model"),
    ("quantization_config", None, "quantised weights are", DEQUANTISE),
    ("pruned_heads", {}, "pruned heads are", "give a model without"),
)
# Every architecture has GPT-2's body; what else it has beside the LM head is left out.
WITH_LM_HEAD = ("GPT2LMHeadModel", "GPT2DoubleHeadsModel", "AutoModelForCausalLMWithValueHead")
WITHOUT_LM_HEAD = (
    "GPT2Model",
    "GPT2ForSequenceClassification",
    "GPT2ForTokenClassification",
    "GPT2ForQuestionAnswering",
)


@dataclass(frozen=True)
class GPT2Config:
    """Sizes and switches that determine the computation; TransformerLens' names.

    `attn_scale` of layer l is `1 / sqrt(d_head)` with `scale_attn_weights` (else 1), divided further by `l + 1`
    with `scale_attn_by_inverse_layer_idx`.
    """

    n_layers: int
    n_heads: int
    d_model: int
    d_mlp: int
    n_ctx: int
    d_vocab: int
    layer_norm_epsilon: float = 1e-5
    activation: str = "gelu_new"
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | None = None

    @property
    def d_head(self) -> int:
        """Width of one head, `d_model / n_heads`."""
        return self.d_model // self.n_heads

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any], where: str = "config.json") -> GPT2Config:
        """Read what `config.json` says, as Hugging Face's GPT-2 understands it.

        Args:
            raw: the parsed file.
            where: what to call it in error messages.

        Raises:
            ConfigError: a size that is missing or impossible, or a value that asks for something else than GPT-2.
        """
        _refuse_other_models(raw, where)
        missing = [keys[0] for _, keys, _ in SIZES if all(raw.get(key) is None for key in keys)]
        if missing:
            raise ConfigError(f"{where}: lacks {', '.join(missing)}; add what the model was trained with")
        sizes = {field: _size(raw, keys, largest, where) for field, keys, largest in SIZES}
        n_heads, d_model = sizes["n_heads"], sizes["d_model"]
        if d_model % n_heads:
            raise ConfigError(f"{where}: n_embd {d_model} is not a multiple of n_head {n_heads}; correct one of them")
        return cls(
            **sizes,
            d_mlp=4 * d_model if raw.get("n_inner") is None else _size(raw, ("n_inner",), 10_000_000, where),
            layer_norm_epsilon=_epsilon(raw, where),
            activation=_activation(raw, where),
            **{key: _switch(raw, key, default, where) for key, default in SWITCHES},
            bos_token_id=_token_id(raw, "bos_token_id", sizes["d_vocab"]),
            eos_token_id=_token_id(raw, "eos_token_id", sizes["d_vocab"]),
        )

    def to_hf(self) -> dict[str, Any]:
        """The content of a `config.json` that `from_hf` reads back and Hugging Face's GPT-2 understands."""
        return {
            "architectures": [WITH_LM_HEAD[0]],
            "model_type": "gpt2",
            **{keys[0]: getattr(self, field) for field, keys, _ in SIZES},
            "n_inner": None if self.d_mlp == 4 * self.d_model else self.d_mlp,
            "activation_function": self.activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            **{key: getattr(self, key) for key, _ in SWITCHES},
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
        }


def is_tied(raw: Mapping[str, Any], where: str) -> bool:
    """Whether `config.json` lets the unembedding be the token embedding (`tie_word_embeddings`, true by default)."""
    return _switch(raw, "tie_word_embeddings", True, where)


def lacks_lm_head(raw: Mapping[str, Any]) -> bool:
    """Whether `config.json` is of an architecture that has GPT-2's body and no LM head."""
    architectures = raw.get("architectures") or []
    return bool(architectures) and set(architectures) <= set(WITHOUT_LM_HEAD)


def _refuse_other_models(raw: Mapping[str, Any], where: str) -> None:
    if raw.get("model_type") not in (None, "gpt2"):
        raise ConfigError(f'{where}: model_type is {_shown(raw["model_type"])}, expected "gpt2"; give a GPT-2')
    architectures = raw.get("architectures") or []
    known = (*WITH_LM_HEAD, *WITHOUT_LM_HEAD)
    if not isinstance(architectures, list) or not set(map(str, architectures)) <= set(known):
        expected = f"a list of {', '.join(known)}"
        raise ConfigError(f"{where}: architectures is {_shown(architectures)}, expected {expected}; give such a model")
    for key, harmless, what, remedy in REFUSED:
        value = raw.get(key)
        if value is not None and value != harmless:
            raise ConfigError(f"{where}: {key} is {_shown(value)}, but {what} not supported; {remedy}")


def _size(raw: Mapping[str, Any], keys: tuple[str, ...], largest: int, where: str) -> int:
    given = [(key, raw[key]) for key in keys if raw.get(key) is not None]
    key, value = given[0]
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        expected = f"a whole number from 1 to {largest}"
        raise ConfigError(f"{where}: {key} is {_shown(value)}, expected {expected}; correct it")
    for other, differing in given[1:]:
        # n_ctx is a relic that Hugging Face's GPT-2 no longer reads where n_positions is there.
        if other != "n_ctx" and differing != value:
            raise ConfigError(f"{where}: {key} is {value}, but {other} is {_shown(differing)}; keep one of them")
    return value


def _epsilon(raw: Mapping[str, Any], where: str) -> float:
    value = raw.get("layer_norm_epsilon", 1e-5)
    # Compared rather than converted first: JSON has whole numbers that no float holds.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf or value > _LARGEST:
        raise ConfigError(f"{where}: layer_norm_epsilon is {_shown(value)}, expected a number ≥ 0; correct it")
    return float(value)


def _activation(raw: Mapping[str, Any], where: str) -> str:
    name = raw.get("activation_function", "gelu_new")
    if not isinstance(name, str):
        raise ConfigError(f"{where}: activation_function is {_shown(name)}, expected a name; correct it")
    return name


def _switch(raw: Mapping[str, Any], key: str, default: bool, where: str) -> bool:
    value = raw.get(key, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: {key} is {_shown(value)}, expected true or false; correct it")
    return value


def _token_id(raw: Mapping[str, Any], key: str, d_vocab: int) -> int | None:
    # Hugging Face writes GPT-2's own 50256 into configurations of smaller vocabularies too, where it means nothing.
    value = raw.get(key, 50256)
    if isinstance(value, list):
        value = value[0] if value else None
    valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < d_vocab
    return value if valid else None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
