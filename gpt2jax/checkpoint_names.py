"""Which tensor of a Hugging Face GPT-2 checkpoint holds which parameters: the one table of names.

Files have these names with or without `transformer.`, or under wrappers; `gpt2jax.stored_names` finds them.

Hugging Face's Conv1D keeps its weights as [in, out]; `c_attn` holds query, key and value side by side. A tensor's axes
are written as in einops, `(a b)` being axes merged into one, under the names of `gpt2jax.params`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from gpt2jax.config import GPT2Config
from gpt2jax.errors import InputError


@dataclass(frozen=True)
class Entry:
    """One row: a tensor (for each layer, where the name has `{layer}`) and the parameters that it holds.

    `tensor_axes` are the tensor's axes as stored, `parameter_axes` those of each parameter without its layer axis;
    several parameters lie along the tensor's `qkv` axis. `parts` names what the tensor is needed for.
    """

    name: str
    tensor_axes: str
    parameters: tuple[str, ...]
    parameter_axes: str
    parts: tuple[str, ...]

    @property
    def per_layer(self) -> bool:
        """Whether there is one such tensor in every layer."""
        return "{layer}" in self.name

    @property
    def axes(self) -> tuple[str, ...]:
        """The tensor's axes, merged ones apart."""
        return tuple(re.findall(r"\w+", self.tensor_axes))

    def names(self, config: GPT2Config) -> list[str]:
        """The tensors' names, in layer order, as the table has them."""
        return [self.name.format(layer=layer) for layer in range(config.n_layers)] if self.per_layer else [self.name]

    def shape(self, config: GPT2Config) -> tuple[int, ...]:
        """The shape of one such tensor as stored."""
        sizes = axis_sizes(config)
        groups = re.findall(r"\(([^)]*)\)|(\w+)", self.tensor_axes)
        return tuple(prod(sizes[axis] for axis in (merged or alone).split()) for merged, alone in groups)

    def parameter_shape(self, config: GPT2Config) -> tuple[int, ...]:
        """The shape of each parameter, layers in front."""
        sizes = axis_sizes(config)
        layers = (config.n_layers,) if self.per_layer else ()
        return layers + tuple(sizes[axis] for axis in self.parameter_axes.split())


# fmt: off
TABLE: tuple[Entry, ...] = (
    Entry("wte.weight", "vocab d_model", ("W_E",), "vocab d_model", ("embed", "unembed")),
    Entry("lm_head.weight", "vocab d_model", ("W_U",), "d_model vocab", ("unembed",)),
    Entry("wpe.weight", "ctx d_model", ("W_pos",), "ctx d_model", ("embed", "positions")),
    Entry("h.{layer}.ln_1.weight", "d_model", ("blocks.ln1.w",), "d_model", ("heads",)),
    Entry("h.{layer}.ln_1.bias", "d_model", ("blocks.ln1.b",), "d_model", ("heads",)),
    Entry("h.{layer}.attn.c_attn.weight", "d_model (qkv head d_head)",
          ("blocks.W_Q", "blocks.W_K", "blocks.W_V"), "head d_model d_head", ("heads",)),
    Entry("h.{layer}.attn.c_attn.bias", "(qkv head d_head)",
          ("blocks.b_Q", "blocks.b_K", "blocks.b_V"), "head d_head", ("heads",)),
    Entry("h.{layer}.attn.c_proj.weight", "(head d_head) d_model", ("blocks.W_O",), "head d_head d_model", ("heads",)),
    Entry("h.{layer}.attn.c_proj.bias", "d_model", ("blocks.b_O",), "d_model", ("heads",)),
    Entry("h.{layer}.ln_2.weight", "d_model", ("blocks.ln2.w",), "d_model", ("mlp",)),
    Entry("h.{layer}.ln_2.bias", "d_model", ("blocks.ln2.b",), "d_model", ("mlp",)),
    Entry("h.{layer}.mlp.c_fc.weight", "d_model d_mlp", ("blocks.W_in",), "d_model d_mlp", ("mlp",)),
    Entry("h.{layer}.mlp.c_fc.bias", "d_mlp", ("blocks.b_in",), "d_mlp", ("mlp",)),
    Entry("h.{layer}.mlp.c_proj.weight", "d_mlp d_model", ("blocks.W_out",), "d_mlp d_model", ("mlp",)),
    Entry("h.{layer}.mlp.c_proj.bias", "d_model", ("blocks.b_out",), "d_model", ("mlp",)),
    Entry("ln_f.weight", "d_model", ("ln_final.w",), "d_model", ("unembed",)),
    Entry("ln_f.bias", "d_model", ("ln_final.b",), "d_model", ("unembed",)),
)
# fmt: on
TOKEN_EMBEDDING, UNEMBEDDING = TABLE[0], TABLE[1]
PARTS: tuple[str, ...] = ("embed", "heads", "mlp", "positions", "unembed")


def tensor_names(config: GPT2Config, entries: Collection[Entry]) -> Iterator[tuple[str, Entry, int]]:
    """Every tensor of a model: its name, its row, its layer (0 where the row has one tensor alone)."""
    for entry in entries:
        for layer, name in enumerate(entry.names(config)):
            yield name, entry, layer


def entries_for(parts: str | Collection[str] | None) -> tuple[Entry, ...]:
    """The rows needed for `parts` of a model; all of them without.

    Raises:
        InputError: a name that is no part.
    """
    wanted = set(PARTS if parts is None else [parts] if isinstance(parts, str) else parts)
    unknown = wanted - set(PARTS)
    if unknown or not wanted:
        found = ", ".join(sorted(map(repr, unknown))) or "nothing"
        raise InputError(f"parts: {found} asked for, but a model's parts are {', '.join(PARTS)}; name some of these")
    return tuple(entry for entry in TABLE if wanted & set(entry.parts))


def axis_sizes(config: GPT2Config) -> dict[str, int]:
    """The length of every axis that the table names."""
    return {
        "vocab": config.d_vocab,
        "ctx": config.n_ctx,
        "qkv": 3,
        "head": config.n_heads,
        "d_model": config.d_model,
        "d_head": config.d_head,
        "d_mlp": config.d_mlp,
    }
