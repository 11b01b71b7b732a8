"""A planted model on disk: a GPT-2 checkpoint with `prompts.jsonl`, which `--prompts` takes, and `truth.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import gpt2jax
from svdtrace.errors import OutputError, TruthError
from svdtrace.output.staging import staging_in
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings.paths import path_of
from svdtrace.truth.circuits import Wire
from svdtrace.truth.planting import Planted, Truth

PROMPTS, TRUTH = "prompts.jsonl", "truth.json"
_ENDS = ("writer", "reader", "side", "t", "i", "j")


def write(planted: Planted, folder: str | Path) -> None:
    """Write a planted model into a new or empty folder; it appears there complete or not at all.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    target = path_of(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{folder}: exists and is not an empty folder; give a new one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with staging_in(target.parent) as staging:
            made = staging / "model"
            gpt2jax.save(planted.model, made)
            lines = [json.dumps(_record(number, each)) for number, each in enumerate(planted.circuit.prompts)]
            (made / PROMPTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
            (made / TRUTH).write_text(json.dumps(_said(planted.truth)) + "\n", encoding="utf-8")
            made.replace(target)
    except OSError as error:
        raise OutputError(f"{folder}: not written ({error.strerror or error}); name another folder") from None


def read_truth(folder: str | Path) -> Truth:
    """What a folder's `truth.json` says. `family`, `strength` and `seed` may be absent.

    Raises:
        TruthError: there is none, or it lacks something, or signals that do not belong to its edges.
    """
    where = path_of(folder) / TRUTH
    try:
        said = json.loads(where.read_text(encoding="utf-8"))
    except OSError as error:
        raise TruthError(
            f"{where}: cannot be read ({error.strerror}); give a folder that weights-tools plant wrote"
        ) from None
    except (ValueError, RecursionError) as error:
        raise TruthError(f"{where}: not valid JSON ({error}); plant the model anew") from None
    try:
        return _understood(said)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise TruthError(
            f"{where}: expected roots, edges ({', '.join(_ENDS)}, share) and for each of these a signal "
            f"[d_model, r], found otherwise ({type(error).__name__}: {error}); plant the model anew"
        ) from None


def _record(number: int, prompt: Prompt) -> dict[str, Any]:
    return {
        "id": f"planted-{number}",
        "tokens": prompt.tokens,
        "roles": prompt.roles,
        "answer": prompt.answer,
        "distractor": prompt.distractor,
    }


def _said(truth: Truth) -> dict[str, Any]:
    edges = [{name: getattr(wire, name) for name in _ENDS} | {"share": share} for wire, share in truth.edges.items()]
    signals = [truth.signals[wire].tolist() for wire in truth.edges]
    made = {name: getattr(truth, name) for name in ("family", "strength", "seed", "roots")}
    return made | {"edges": edges, "signals": signals}


def _understood(said: dict[str, Any]) -> Truth:
    edges, signals = {}, {}
    for edge, signal in zip(said["edges"], said["signals"], strict=True):
        writer, reader, side, t, i, j = (str(edge[name]) for name in _ENDS)
        wire = Wire(writer, reader, side, i, j)
        if side not in ("dest", "src") or wire.t != t:
            raise ValueError(f"edge {writer}:{reader} has side {side} and token {t}")
        edges[wire], signals[wire] = float(edge["share"]), np.asarray(signal, float)
        if signals[wire].ndim != 2:
            raise ValueError(f"the signal of {writer}:{reader} has {signals[wire].ndim} axes")
    if not edges:
        raise ValueError("no edges")
    family, strength, seed = said.get("family"), said.get("strength"), said.get("seed")
    return Truth(family, strength, seed, str(said["roots"]), edges, signals)
