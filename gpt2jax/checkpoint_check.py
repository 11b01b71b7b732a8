"""Comparing what a checkpoint holds with what the configuration asks for; all differences in one message."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable

from gpt2jax.checkpoint_names import IGNORED, TABLE, Entry, canonical_name, tensor_names
from gpt2jax.config import GPT2Config
from gpt2jax.errors import CheckpointError, MissingTensorsError
from gpt2jax.tensor_file import DTYPES, StoredTensor
from gpt2jax.weight_files import WeightFiles

_LAYERED = re.compile(r"h\.(\d+)\.(.+)")
_MOST = 8


def needed_tensors(
    weights: WeightFiles, config: GPT2Config, entries: Collection[Entry], optional: Collection[str]
) -> dict[str, StoredTensor]:
    """The tensors that rows of the table stand for, by their names in the table.

    Args:
        weights: the files' headers.
        config: the model's sizes.
        entries: the rows that are needed.
        optional: names that may be absent.

    Raises:
        CheckpointError: missing, unexpected, doubled, mis-shaped or unreadable tensors, all in one line;
            `MissingTensorsError` where missing ones are all that is wrong.
    """
    stored = weights.tensors()
    found = {canonical_name(name): tensor for name, tensor in stored.items()}
    known = {name for name, _, _ in tensor_names(config, TABLE)}
    needed = {name: entry for name, entry, _ in tensor_names(config, entries)}
    present = {name: found[name] for name in needed if name in found}
    doubled = [name for name, count in Counter(map(canonical_name, stored)).items() if count > 1]
    missing = needed.keys() - found.keys() - set(optional)
    unexpected = [name for name in found if name not in known and not IGNORED.fullmatch(name)]
    unreadable = [f"{name} ({tensor.dtype})" for name, tensor in present.items() if tensor.dtype not in DTYPES]
    n_layers = config.n_layers
    problems = [
        f"{problem} {_places(names, n_layers)}"
        for problem, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("both with and without 'transformer.'", doubled),
            (f"of a dtype other than {', '.join(DTYPES)}", unreadable),
            ("mis-shaped", _misshaped(present, needed, config)),
        )
        if names
    ]
    if problems:
        kind = MissingTensorsError if missing and len(problems) == 1 else CheckpointError
        raise kind(f"{weights.where}: {'; '.join(problems)}; {_remedy(missing)}")
    return present


def _misshaped(present: dict[str, StoredTensor], needed: dict[str, Entry], config: GPT2Config) -> list[str]:
    shapes = {entry.name: entry.shape(config) for entry in needed.values()}
    return [
        f"{name} (found {list(tensor.shape)}, expected {list(shapes[needed[name].name])})"
        for name, tensor in present.items()
        if tensor.shape != shapes[needed[name].name]
    ]


def _remedy(missing: Collection[str]) -> str:
    if missing and not any(name.startswith("h.") and re.search(r"\.(ln_1|attn)\.", name) for name in missing):
        return 'give the complete checkpoint, or load the attention heads alone with parts="heads"'
    return "give the complete checkpoint with the config.json that belongs to it"


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
