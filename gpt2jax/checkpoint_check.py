"""Comparing what a checkpoint holds with what the configuration asks for; all differences in one message."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2jax.activations import WITH_PARAMETERS
from gpt2jax.checkpoint_names import TABLE, UNEMBEDDING, Entry, tensor_names
from gpt2jax.config import DEQUANTISE, GPT2Config
from gpt2jax.errors import CheckpointError, MissingTensorsError
from gpt2jax.stored_names import Recognised
from gpt2jax.tensor_file import DTYPES, StoredTensor

_LAYERED = re.compile(r"h\.(\d{1,9})\.(.+)")
_MOST = 8
_COMPLETE = "give the complete checkpoint with the config.json that belongs to it"
# Where PEFT keeps what it trained, and what bitsandbytes, GPTQ, AWQ and compressed tensors keep beside their integers.
_ADAPTER = re.compile(r".*\.(lora_\w+|base_layer|ia3_\w+|hada_\w+|lokr_\w+|oft_\w+|vera_\w+)(\..+)?|prompt_encoder\..+")
_QUANTISED = re.compile(
    r".*\.(SCB|weight_format|absmax|quant_map|nested_\w+|quant_state\..+|qweight|qzeros|scales|g_idx|weight_packed|"
    r"weight_scale\w*|weight_zero_point|input_scale)"
)
_UNEMBEDDING_BIAS = "lm_head.bias"
_LINEAR = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what, and what to do about it."""

    what: str
    remedy: str = _COMPLETE
    only_missing: bool = False


def needed_tensors(
    recognised: Recognised, config: GPT2Config, entries: Collection[Entry], where: str | Path
) -> dict[str, StoredTensor]:
    """The tensors that rows of the table stand for, by their names in the table.

    Args:
        recognised: the files' tensors.
        config: the model's sizes.
        entries: the rows that are needed.
        where: what to call the files in error messages.

    Raises:
        CheckpointError: missing, unexpected, doubled, mis-shaped or unreadable tensors, all in one line;
            `MissingTensorsError` where missing ones are all that is wrong.
    """
    needed = {name: entry for name, entry, _ in tensor_names(config, entries)}
    present = {name: recognised.found[name] for name in needed if name in recognised.found}
    missing = needed.keys() - present.keys()
    of_entry = {entry.name: entry.shape(config) for entry in entries}
    shapes = {name: of_entry[entry.name] for name, entry in needed.items()}
    elsewhere, unknown = _unknown(list(_unexpected(recognised, config, entries)), config)
    problems = [
        # What is quantised or adapted lies under other names, which say more than the missing ones.
        *(elsewhere or _missing(missing, config, entries)),
        *unknown,
        *_doubled(recognised, config),
        *_unreadable(present, config),
        *_misshaped(present, shapes, config),
    ]
    if problems:
        only_missing = all(problem.only_missing for problem in problems)
        kind = MissingTensorsError if only_missing else CheckpointError
        remedies = dict.fromkeys(problem.remedy for problem in problems)
        raise kind(f"{where}: {'; '.join([*(problem.what for problem in problems), *remedies])}")
    return present


def _missing(missing: Collection[str], config: GPT2Config, entries: Collection[Entry]) -> list[Problem]:
    if not missing:
        return []
    kinds = [entry.name for entry in entries if set(entry.names(config)) <= set(missing)]
    whole = sum(len(entry.names(config)) for entry in entries if entry.name in kinds)
    if whole == len(missing) and all(kind.endswith(".bias") for kind in kinds):
        what = f"holds no biases (bias=False) {_places(missing, config.n_layers)}"
        return [Problem(what, "add them as zeros, each as long as its weight's last axis", only_missing=True)]
    remedy = _COMPLETE
    if not any(name.startswith("h.") and re.search(r"\.(ln_1|attn)\.", name) for name in missing):
        remedy = 'give the complete checkpoint, or load the attention heads alone with parts="heads"'
    return [Problem(f"missing {_places(missing, config.n_layers)}", remedy, only_missing=True)]


def _unexpected(recognised: Recognised, config: GPT2Config, entries: Collection[Entry]) -> Iterator[str]:
    """Names that are no GPT-2's, without those that what is needed does not depend on."""
    known = {name for name, _, _ in tensor_names(config, TABLE)}
    for name in recognised.found:
        beside = name == _UNEMBEDDING_BIAS and UNEMBEDDING not in entries
        # Refused where the MLP is run, with the activation's name.
        in_activation = config.activation in WITH_PARAMETERS and re.fullmatch(r"h\.\d+\.mlp\.act\..+", name)
        if name not in known and not beside and not in_activation:
            yield name


def _unknown(unexpected: Collection[str], config: GPT2Config) -> tuple[list[Problem], list[Problem]]:
    """What is wrong with names that are no GPT-2's: what says where weights are instead, and the rest."""
    elsewhere, rest = [], []
    adapter = [name for name in unexpected if _ADAPTER.fullmatch(name)]
    quantised = [name for name in unexpected if _QUANTISED.fullmatch(name)]
    others = set(unexpected) - {*adapter, *quantised, _UNEMBEDDING_BIAS}
    if adapter:
        what = f"an adapter that is not merged into the weights, {_places(adapter, config.n_layers)}"
        elsewhere.append(Problem(what, "merge it (in peft: model.merge_and_unload().save_pretrained(NEW))"))
    if quantised:
        elsewhere.append(Problem(f"quantised weights, {_places(quantised, config.n_layers)}", DEQUANTISE))
    if _UNEMBEDDING_BIAS in unexpected:
        what = f"{_UNEMBEDDING_BIAS}, but the LM head of a GPT-2 has no bias"
        rest.append(Problem(what, "take it out if it is zero, else give a model without"))
    if others:
        rest.append(Problem(f"unexpected {_places(others, config.n_layers)}"))
    return elsewhere, rest


def _doubled(recognised: Recognised, config: GPT2Config) -> Iterator[Problem]:
    if recognised.doubled:
        yield Problem(f"under two names {_places(recognised.doubled, config.n_layers)}", "leave one of the two out")


def _unreadable(present: dict[str, StoredTensor], config: GPT2Config) -> Iterator[Problem]:
    odd = {name: tensor.dtype for name, tensor in present.items() if tensor.dtype not in DTYPES}
    if not odd:
        return
    named = [f"{name} ({dtype})" for name, dtype in odd.items()]
    what = f"of a dtype other than {', '.join(DTYPES)} {_places(named, config.n_layers)}"
    remedy = "convert them to float32 (in transformers: model.float().save_pretrained(NEW))"
    yield Problem(what, remedy if set(odd.values()) == {"F64"} else DEQUANTISE)


def _misshaped(
    present: dict[str, StoredTensor], shapes: dict[str, tuple[int, ...]], config: GPT2Config
) -> Iterator[Problem]:
    misshaped = {name: tensor.shape for name, tensor in present.items() if tensor.shape != shapes[name]}
    turned = [name for name, shape in misshaped.items() if name.endswith(_LINEAR) and shape == shapes[name][::-1]]
    if turned:
        yield Problem(
            f"weights lie as torch.nn.Linear has them, [out, in], as in nanoGPT and minGPT, but GPT-2's are [in, out]: "
            f"{_places(turned, config.n_layers)}",
            f"transpose {', '.join(_LINEAR)} of every layer, square ones too",
        )
    others = [
        f"{name} (found {list(shape)}, expected {list(shapes[name])})"
        for name, shape in misshaped.items()
        if name not in turned
    ]
    if others:
        yield Problem(f"mis-shaped {_places(others, config.n_layers)}")


def _places(names: Iterable[str], n_layers: int) -> str:
    """Names in words, layers gathered: `wte.weight, and in all 12 layers mlp.c_fc.weight, mlp.c_proj.weight`."""
    alone: list[str] = []
    layers_of: dict[str, set[int]] = defaultdict(set)
    for name in names:
        match = _LAYERED.fullmatch(name)
        if match:
            layers_of[match[2]].add(int(match[1]))
        else:
            alone.append(name)
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for rest, layers in layers_of.items():
        alike[tuple(sorted(layers))].append(rest)
    groups = [_listed(sorted(alone))] if alone else []
    groups += [f"in {_layers(layers, n_layers)} {_listed(sorted(rests))}" for layers, rests in sorted(alike.items())]
    return ", and ".join(
        groups if len(groups) <= _MOST else [*groups[:_MOST], f"{len(groups) - _MOST} more such groups"]
    )


def _layers(layers: tuple[int, ...], n_layers: int) -> str:
    if layers == tuple(range(n_layers)) and n_layers > 1:
        return f"all {n_layers} layers"
    if len(layers) > 2 and layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layer{'s' if len(layers) > 1 else ''} {_listed([str(layer) for layer in layers])}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST])
    return shown if len(names) <= _MOST else f"{shown} and {len(names) - _MOST} more"
