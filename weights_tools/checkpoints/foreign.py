"""How other programs name and lay out GPT-2's weights, as tables; and what becomes Hugging Face's of it.

nanogpt           Karpathy's nanoGPT: Hugging Face's names, Linear layers [out, in], biases optional, exact GELU
minGPT            Karpathy's minGPT: the same layout, GPT-2's GELU, unembedding its own
openai-npz        OpenAI's gpt-2, TensorFlow's names (`model/h0/attn/c_attn/w`), convolutions [1, in, out]
transformer-lens  HookedTransformer's names and axes, unprocessed weights
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpt2jax.checkpoint import parameter_views
from gpt2jax.checkpoint_names import TABLE, TOKEN_EMBEDDING, UNEMBEDDING, Entry, tensor_names
from gpt2jax.config import GPT2Config
from gpt2jax.errors import CheckpointError
from gpt2jax.stored_names import recognise
from gpt2jax.tensor_file import StoredTensor
from weights_tools.checkpoints.arrays import StoredArray

LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@dataclass(frozen=True)
class Tensor:
    """A tensor in Hugging Face's layout that is made when it is asked for; `dtype` in safetensors' terms."""

    dtype: str
    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Format:
    """One program's way.

    Attributes:
        activation: what the program computes in its MLPs.
        names: by the table's name the arrays that one such tensor is made of, `{layer}` standing for the layer.
        linear: whether weights of its layers lie [out, in] under Hugging Face's names, prefixes and wrappers before
            them, and biases may be absent.
        parameters: whether each of `gpt2jax.params`' parameters is an array of its own, in its own axes.
        ignored: arrays without weights.
    """

    activation: str
    names: Mapping[str, tuple[str, ...]]
    linear: bool = False
    parameters: bool = False
    ignored: str = r"(?!)"


def _lens_name(parameter: str) -> str:
    """TransformerLens' name of one of `gpt2jax.params`' parameters."""
    alone = {"W_E": "embed.W_E", "W_pos": "pos_embed.W_pos", "W_U": "unembed.W_U"}
    if not parameter.startswith("blocks."):
        return alone.get(parameter, parameter)
    rest = parameter.removeprefix("blocks.")
    if rest.startswith("ln"):
        return f"blocks.{{layer}}.{rest}"
    return f"blocks.{{layer}}.{'mlp' if rest.endswith(('_in', '_out')) else 'attn'}.{rest}"


def _openai_name(entry: Entry) -> str:
    """TensorFlow's name of one of the table's tensors."""
    *parents, kind = entry.name.replace("h.{layer}", "h{layer}").split(".")
    if parents[-1] in ("wte", "wpe"):
        return f"model/{parents[-1]}"
    short = "b" if kind == "bias" else "g" if parents[-1].startswith("ln_") else "w"
    return "/".join(["model", *parents, short])


_AS_HUGGING_FACE = {entry.name: (entry.name,) for entry in TABLE}
FORMATS: dict[str, Format] = {
    "nanogpt": Format("gelu", _AS_HUGGING_FACE, linear=True),
    "minGPT": Format("gelu_new", _AS_HUGGING_FACE, linear=True),
    "openai-npz": Format(
        "gelu_new", {entry.name: (_openai_name(entry),) for entry in TABLE if entry is not UNEMBEDDING}
    ),
    "transformer-lens": Format(
        "gelu_new",
        {entry.name: tuple(map(_lens_name, entry.parameters)) for entry in TABLE},
        parameters=True,
        ignored=r"blocks\.\d+\.attn\.(mask|IGNORE)",
    ),
}


def inferred(form: str, arrays: Mapping[str, StoredArray], where: object) -> dict[str, int]:
    """Sizes that shapes tell, by `config.json`'s names; `n_head` only of TransformerLens.

    Raises:
        CheckpointError: an array is missing without which nothing can be told.
    """
    names = FORMATS[form].names

    def shape(name: str) -> tuple[int, ...]:
        own = names[name][0].format(layer=0)
        if own not in arrays:
            wrong = f"{where}: no {own} among its {len(arrays)} arrays ({_listed(sorted(arrays))})"
            raise CheckpointError(f"{wrong}, as {form} has; name the program that wrote it with --from")
        if len(arrays[own].shape) < 2:
            raise CheckpointError(f"{where}: {own} is {list(arrays[own].shape)}, expected a matrix; make it again")
        return arrays[own].shape

    vocab, width = shape(TOKEN_EMBEDDING.name)
    layers = re.compile(re.escape(names["h.{layer}.attn.c_attn.weight"][0]).replace(r"\{layer\}", r"(\d+)"))
    counted = [int(match[1]) for match in map(layers.fullmatch, arrays) if match]
    inner = shape("h.{layer}.mlp.c_fc.weight")
    found = {
        "n_layer": max(counted, default=-1) + 1,
        "n_embd": width,
        "n_positions": shape("wpe.weight")[0],
        "vocab_size": vocab,
        "n_inner": inner[0] if FORMATS[form].linear else inner[-1],
    }
    if FORMATS[form].parameters:
        found["n_head"] = shape("h.{layer}.attn.c_attn.weight")[0]
    return found


def recognised(
    form: str, arrays: Mapping[str, StoredArray], where: Path
) -> tuple[dict[str, StoredArray], tuple[str, ...]]:
    """Arrays by the names that `FORMATS` has, without prefixes and wrappers, and what is to be said of them.

    Raises:
        CheckpointError: names under several prefixes.
    """
    if not FORMATS[form].linear:
        return dict(arrays), ()
    headers = {name: StoredTensor(each.path, each.name, each.dtype, each.shape, 0) for name, each in arrays.items()}
    known = recognise(headers, tied=True, where=where)
    if known.doubled:
        raise CheckpointError(f"{where}: under two names {_listed(list(known.doubled))}; leave one of the two out")
    return {name: arrays[tensor.name] for name, tensor in known.found.items()}, known.notes


def converted(form: str, arrays: Mapping[str, StoredArray], config: GPT2Config, where: object) -> dict[str, Tensor]:
    """All tensors by the table's names, and `lm_head.weight` where the unembedding is its own.

    Args:
        form: one of `FORMATS`.
        arrays: by the format's own names.
        config: the model's.
        where: what to call the file in messages.

    Raises:
        CheckpointError: arrays that are missing, of another shape, or without which the model would compute something
            else; all are named.
    """
    style = FORMATS[form]
    biases = not style.linear or any(name.endswith(".bias") for name in arrays)
    found, used, wrong = {}, set(), []
    for name, entry, layer in tensor_names(config, TABLE):
        if entry.name not in style.names:
            continue
        own = [each.format(layer=layer) for each in style.names[entry.name]]
        if entry is UNEMBEDDING and own[0] not in arrays:
            continue
        missing = [each for each in own if each not in arrays]
        if missing and not biases and name.endswith(".bias"):
            found[name] = _zeros(entry, config)
        elif missing:
            wrong += [f"no {each}" for each in missing]
        else:
            used |= set(own)
            parts = [arrays[each] for each in own]
            wrong += _misshaped(parts, _expected(style, entry, config))
            found[name] = _tensor(parts, style, entry, config)
    wrong += _beside(arrays, used, style)
    if wrong:
        raise CheckpointError(
            f"{where}: {_listed(wrong, 8)}; without what is missing or has no place in a GPT-2 it would compute "
            f"something else: give what {form} saved of a whole, unprocessed GPT-2"
        )
    if UNEMBEDDING.name in found and _tied(found):
        del found[UNEMBEDDING.name]
    return found


def _expected(style: Format, entry: Entry, config: GPT2Config) -> tuple[int, ...]:
    """The shape of each of the arrays that a tensor is made of."""
    if style.parameters:
        return entry.parameter_shape(config)[1 if entry.per_layer else 0 :]
    shape = entry.shape(config)
    return shape[::-1] if style.linear and entry.name.endswith(LINEAR) else shape


def _misshaped(parts: list[StoredArray], expected: tuple[int, ...]) -> Iterator[str]:
    for part in parts:
        if part.shape not in (expected, (1, *expected)):
            hint = ", as Hugging Face has it already; leave --from out" if part.shape == expected[::-1] else ""
            yield f"{part.name} is {list(part.shape)}, expected {list(expected)}{hint}"


def _tensor(parts: list[StoredArray], style: Format, entry: Entry, config: GPT2Config) -> Tensor:
    shape = entry.shape(config)

    def make() -> np.ndarray:
        if not style.parameters:
            array = parts[0].read()
            return array.T if style.linear and entry.name.endswith(LINEAR) else array.reshape(shape)
        arrays = [part.read() for part in parts]
        tensor = np.empty(shape, np.result_type(*arrays))
        for view, array in zip(parameter_views(tensor, entry, config), arrays, strict=True):
            view[...] = array
        return tensor

    return Tensor(parts[0].dtype, shape, make)


def _zeros(entry: Entry, config: GPT2Config) -> Tensor:
    shape = entry.shape(config)
    return Tensor("F32", shape, lambda: np.zeros(shape, np.float32))


def _beside(arrays: Mapping[str, StoredArray], used: set[str], style: Format) -> Iterator[str]:
    """Arrays that no GPT-2 has a place for; an unembedding's bias that is zero changes nothing."""
    for name in sorted(arrays.keys() - used):
        if re.fullmatch(style.ignored, name):
            continue
        if name in ("unembed.b_U", "lm_head.bias"):
            if np.any(arrays[name].read()):
                yield f"{name} is not zero, and GPT-2's unembedding has no bias"
            continue
        yield f"{name} has no place"


def _tied(found: Mapping[str, Tensor]) -> bool:
    pair = [found[entry.name] for entry in (TOKEN_EMBEDDING, UNEMBEDDING)]
    first, second = (np.ascontiguousarray(each.make()) for each in pair)
    return first.dtype == second.dtype and np.array_equal(first.view(np.uint8), second.view(np.uint8))


def _listed(names: list[str], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
