"""Training that was interrupted, on disk beside the folder that it makes: whole or not at all, never pickle."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt2jax.errors import InputError, OutputError
from weights_tools.training.recipe import Recipe

FORMAT = "weights-tools-train-1"


@dataclass(frozen=True)
class Kept:
    """Training after an update.

    Attributes:
        step: how many updates were made.
        arrays: parameters, then the optimiser's state, as leaves in order.
        random: the state of the generator of texts, before the next rows are made (`random.Random.getstate`).
        seconds: spent so far.
    """

    step: int
    arrays: tuple[np.ndarray, ...]
    random: tuple[Any, ...]
    seconds: float = 0.0


def place_of(out: Path) -> Path:
    """Where unfinished training towards a folder is kept."""
    return out.with_name(f"{out.name}.unfinished.safetensors")


def keep(path: Path, recipe: Recipe, kept: Kept) -> None:
    """Write how far training is, in place of what was kept before.

    Raises:
        OutputError: it cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "recipe": json.dumps(dataclasses.asdict(recipe)),
        "step": str(kept.step),
        "random": json.dumps(kept.random),
        "seconds": repr(kept.seconds),
    }
    aside = path.with_name(f"{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({f"{number:06}": each for number, each in enumerate(kept.arrays)}, aside, metadata)
        aside.replace(path)
    except (OSError, SafetensorError) as failure:
        aside.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({failure}); make room, or name another folder with --out"
        ) from None


def read_kept(path: Path, recipe: Recipe) -> Kept | None:
    """What was kept of this recipe's training; `None` where nothing was.

    Raises:
        InputError: it is damaged, or another recipe's.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            said = file.metadata() or {}
            arrays = tuple(file.get_tensor(name) for name in sorted(file.keys()))
        made = json.loads(said["recipe"])
        version, words, gauss = json.loads(said["random"])
        kept = Kept(int(said["step"]), arrays, (version, tuple(words), gauss), float(said["seconds"]))
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as failure:
        reason = " ".join(str(failure).split())
        raise InputError(f"{path}: no training that can go on ({reason}); delete it to begin anew") from None
    ours = dataclasses.asdict(recipe)
    differing = [f"{name} {made.get(name)!r}, not {value!r}" for name, value in ours.items() if made.get(name) != value]
    if differing or said.get("format") != FORMAT:
        raise InputError(
            f"{path}: unfinished training of another recipe ({', '.join(differing) or said.get('format')}); go on with "
            "its settings, name another folder with --out, or delete it"
        )
    return kept
