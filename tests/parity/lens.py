"""Every value that TransformerLens and this package name alike, held against each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from checkpoints.folders import write_folder

import gpt2jax
from gpt2jax.sites import BLOCK_SITES, STEM_SITES

VALUES = Path(__file__).with_name("transformer_lens.npz")
# METHOD.md, section 3: a value of a float32 pass is good to 5e-5 of the largest, 419 ulp; the same many in float64, and
# twice where both sides err.
ULPS = {"float32": 419, "float64": 839}
SHARED = [*STEM_SITES, *(f"blocks.*.{site}" for site in BLOCK_SITES)]


@dataclass(frozen=True)
class Difference:
    """A hook's largest difference from TransformerLens' float64 value, beside what rounding may make it."""

    hook: str
    processing: str
    dtype: str
    error: float
    bound: float


@cache
def held() -> dict[str, np.ndarray]:
    """What `transformer_lens_arrays.py` wrote."""
    with np.load(VALUES) as file:
        return {name: file[name] for name in file.files}


def theirs(processing: str) -> dict[str, np.ndarray]:
    """TransformerLens' values by hook, those of all blocks stacked."""
    found = {name.removeprefix(f"{processing}/"): each for name, each in held().items() if "/" in name}
    found = {name: each for name, each in found.items() if f"{processing}/{name}" in held()}
    n_layers = json.loads(str(held()["config"]))["n_layer"]
    stacked = {
        name.replace("blocks.0.", "blocks.*."): np.stack(
            [found[name.replace("blocks.0.", f"blocks.{layer}.")] for layer in range(n_layers)]
        )
        for name in found
        if name.startswith("blocks.0.")
    }
    return {name: each for name, each in found.items() if not name.startswith("blocks.")} | stacked


def ours(processing: str, dtype: str) -> dict[str, np.ndarray]:
    """Our values by tap, and the logits."""
    with jax.enable_x64(dtype == "float64"), TemporaryDirectory() as place:
        weights = {
            f"transformer.{name.removeprefix('model/transformer.')}": each
            for name, each in held().items()
            if name.startswith("model/")
        }
        model = gpt2jax.load(write_folder(Path(place) / "model", weights, json.loads(str(held()["config"]))))
        model = model.replace(params=jax.tree.map(lambda w: w.astype(dtype), model.params))
        model = gpt2jax.fold(model) if processing == "folded" else model
        out = gpt2jax.forward(model, held()["tokens"], taps=SHARED)
        return {name: np.asarray(out.taps[name]) for name in SHARED} | {"logits": np.asarray(out.logits)}


def differences(processing: str, dtype: str) -> list[Difference]:
    """All hooks that both have, and the logits."""
    mine, other = ours(processing, dtype), theirs(processing)
    return [_difference(name, processing, dtype, mine[name], other[name]) for name in mine]


def _difference(hook: str, processing: str, dtype: str, mine: Any, other: np.ndarray) -> Difference:
    assert mine.shape == other.shape, hook
    # Scores of later tokens are masked by what each takes for minus infinity.
    allowed = np.tri(other.shape[-1], dtype=bool) if hook.endswith("attn_scores") else True
    mine, other = (np.where(allowed, each, 0).astype(np.float64) for each in (mine, other))
    error, size = np.max(np.abs(mine - other)), np.max(np.abs(other))
    return Difference(hook, processing, dtype, float(error), ULPS[dtype] * float(np.finfo(dtype).eps) * float(size))
