"""Weights that are none: files cut short, headers that lie, indices that point elsewhere, pickle."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

import gpt2jax
from hostile.refusals import Case, Files

WEIGHTS, CONFIG, TOKENIZER = "model/model.safetensors", "model/config.json", "model/tokenizer.json"
INDEX = "model/model.safetensors.index.json"
NOT_WHOLE = f"{WEIGHTS}: not a complete safetensors file ("


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """A safetensors file whose header says something else; its data stay."""

    def rewritten(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        said = json.loads(content[8 : 8 + length])
        text = json.dumps(change(said) or said).encode()
        return struct.pack("<Q", len(text)) + text + content[8 + length :]

    return rewritten


def weights(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[bytes], bytes]:
    """A safetensors file with other tensors."""

    def rewritten(content: bytes) -> bytes:
        held = load(content)
        return save(change(held) or held)

    return rewritten


def entry(name: str, **changes: Any) -> Callable[[bytes], bytes]:
    """What a header says of one tensor, changed."""
    return header(lambda said: said[f"transformer.{name}"].update(changes))


def overlapping(said: dict[str, Any]) -> None:
    first, second = [name for name in said if name != "__metadata__"][:2]
    said[second]["data_offsets"][0] = said[first]["data_offsets"][0]


def filled(name: str, value: float) -> Callable[[bytes], bytes]:
    return weights(lambda held: held[f"transformer.{name}"].flat.__setitem__(0, value))


def dropped(name: str) -> Callable[[bytes], bytes]:
    return weights(lambda held: {each: tensor for each, tensor in held.items() if each != f"transformer.{name}"})


def sharded(weight_map: Any) -> Files:
    """An index in place of the single file."""
    return {WEIGHTS: None, INDEX: {"weight_map": weight_map} if weight_map is not None else {}}


class Bomb:
    """Unpickled, it leaves a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def pickled() -> bytes:
    file = io.BytesIO()
    pickle.dump(Bomb(), file)
    return file.getvalue()


def of_model(name: str, said: str, files: Files, *also: str, before: Callable[[], object] | None = None) -> Case:
    """A model that cannot be loaded, whichever way."""
    # Where tensors are missing the command is content with heads.
    parts = "heads" if "missing in" in said else None
    load = lambda: gpt2jax.load("model", parts=parts)  # noqa: E731
    return Case(name, ("decompose", "--model", "model"), said, files, before=before, python=load, also=also)


WRONG_WEIGHTS = [
    of_model("truncated", NOT_WHOLE, {WEIGHTS: lambda held: held[: len(held) // 2]}, "fetch or convert it again"),
    of_model("without its last byte", NOT_WHOLE, {WEIGHTS: lambda held: held[:-1]}),
    of_model("a byte too long", NOT_WHOLE, {WEIGHTS: lambda held: held + b"\0"}),
    of_model("empty", NOT_WHOLE, {WEIGHTS: b""}),
    of_model("seven bytes", NOT_WHOLE, {WEIGHTS: b"\1" * 7}),
    of_model("a header that never ends", NOT_WHOLE, {WEIGHTS: lambda held: b"\xff" * 8 + held[8:]}),
    of_model("a header of a terabyte", NOT_WHOLE, {WEIGHTS: lambda held: struct.pack("<Q", 1 << 40) + held[8:]}),
    of_model("a header longer than the file", NOT_WHOLE, {WEIGHTS: lambda held: struct.pack("<Q", 9999999) + held[8:]}),
    of_model("a header that is no JSON", NOT_WHOLE, {WEIGHTS: struct.pack("<Q", 8) + b"nonsense"}),
    of_model("a header that is a list", NOT_WHOLE, {WEIGHTS: struct.pack("<Q", 2) + b"[]"}),
    of_model("a header that is deep", NOT_WHOLE, {WEIGHTS: struct.pack("<Q", 90000) + b"[" * 90000}),
    of_model("no tensors", f"{WEIGHTS}: missing in all 2 layers ", {WEIGHTS: struct.pack("<Q", 2) + b"{}"}),
    of_model("overlapping offsets", NOT_WHOLE, {WEIGHTS: header(overlapping)}),
    of_model("offsets beyond the file", NOT_WHOLE, {WEIGHTS: entry("wpe.weight", data_offsets=[0, 1 << 40])}),
    of_model("offsets turned round", NOT_WHOLE, {WEIGHTS: entry("wpe.weight", data_offsets=[64, 0])}),
    of_model("negative offsets", NOT_WHOLE, {WEIGHTS: entry("wpe.weight", data_offsets=[-64, 0])}),
    of_model("a shape that overflows", NOT_WHOLE, {WEIGHTS: entry("wpe.weight", shape=[1 << 62, 1 << 62])}),
    of_model("a negative shape", NOT_WHOLE, {WEIGHTS: entry("wpe.weight", shape=[-1, 8])}),
    of_model("a dtype that is none", NOT_WHOLE, {WEIGHTS: entry("wpe.weight", dtype="F31")}),
    of_model("a Git LFS pointer", f"{WEIGHTS}: a Git LFS pointer", {WEIGHTS: "version https://git-lfs.github.com/"}),
    of_model("a page of HTML", NOT_WHOLE, {WEIGHTS: "<!DOCTYPE html><html>not found</html>"}),
    of_model(
        "NaN",
        f"{WEIGHTS}: transformer.wpe.weight holds 1 value that is not finite",
        {WEIGHTS: filled("wpe.weight", np.nan)},
    ),
    of_model(
        "infinity",
        f"{WEIGHTS}: transformer.h.1.attn.c_attn.weight holds 1 value that is not finite",
        {WEIGHTS: filled("h.1.attn.c_attn.weight", -np.inf)},
        "fetch the weights again",
    ),
    of_model(
        "a wrong shape",
        f"{WEIGHTS}: mis-shaped wpe.weight (found [3, 8], expected [16, 8])",
        {WEIGHTS: weights(lambda held: held.update({"transformer.wpe.weight": np.zeros((3, 8), np.float32)}))},
    ),
    of_model(
        "no axes",
        f"{WEIGHTS}: mis-shaped wpe.weight (found [], expected [16, 8])",
        {WEIGHTS: weights(lambda held: held.update({"transformer.wpe.weight": np.zeros((), np.float32)}))},
    ),
    of_model(
        "a missing tensor",
        f"{WEIGHTS}: missing in layer 1 attn.c_attn.weight",
        {WEIGHTS: dropped("h.1.attn.c_attn.weight")},
    ),
    of_model(
        "an extra tensor",
        f"{WEIGHTS}: unexpected in layer 2 attn.c_attn.weight",
        {WEIGHTS: weights(lambda held: held.update({"transformer.h.2.attn.c_attn.weight": np.zeros(1, np.float32)}))},
    ),
    of_model(
        "a tensor named by control characters",
        f"{WEIGHTS}: unexpected \\x1b[31m \\x07;",
        {WEIGHTS: weights(lambda held: held.update({"transformer.\x1b[31m\n\x07": np.zeros(1, np.float32)}))},
    ),
    of_model(
        "a tensor named by ten thousand characters",
        f"{WEIGHTS}: unexpected xxx",
        {WEIGHTS: weights(lambda held: held.update({"x" * 10_000: np.zeros(1, np.float32)}))},
    ),
    of_model(
        "whole numbers",
        f"{WEIGHTS}: of a dtype other than F32, F16, BF16 wpe.weight (I32)",
        {WEIGHTS: weights(lambda held: held.update({"transformer.wpe.weight": np.zeros((16, 8), np.int32)}))},
    ),
    of_model(
        "a folder in its place",
        f"{WEIGHTS}: cannot be read (Is a directory)",
        {WEIGHTS: None},
        before=lambda: Path(WEIGHTS).mkdir(),
    ),
    of_model(
        "a link that leads nowhere",
        f"{WEIGHTS}: no such file; fetch the whole",
        {WEIGHTS: None},
        before=lambda: Path(WEIGHTS).symlink_to("gone"),
    ),
    of_model(
        "a link to itself",
        f"{WEIGHTS}: cannot be read (Too many levels of symbolic links)",
        {WEIGHTS: None},
        before=lambda: Path(WEIGHTS).symlink_to("model.safetensors"),
    ),
    of_model(
        "pickle alone",
        "model: holds pytorch_model.bin but no model.safetensors; pickle files can run code",
        {WEIGHTS: None, "model/pytorch_model.bin": pickled()},
    ),
    of_model("pickle under another name", NOT_WHOLE, {WEIGHTS: pickled()}),
    of_model("no weights", "model: no model.safetensors nor", {WEIGHTS: None}, "found config.json, tokenizer.json"),
]
INDICES = [
    of_model(
        "an index above its folder",
        f"{INDEX}: weight_map sends 'a' to '../x.safetensors'",
        sharded({"a": "../x.safetensors"}),
    ),
    of_model(
        "an index to the root",
        f"{INDEX}: weight_map sends 'a' to '/etc/x.safetensors'",
        sharded({"a": "/etc/x.safetensors"}),
    ),
    of_model(
        "an index into a folder",
        f"{INDEX}: weight_map sends 'a' to 'b/x.safetensors'",
        sharded({"a": "b/x.safetensors"}),
    ),
    of_model("an index of backslashes", f"{INDEX}: weight_map sends 'a' to '..", sharded({"a": "..\\x.safetensors"})),
    of_model("an index to pickle", f"{INDEX}: weight_map sends 'a' to 'x.bin'", sharded({"a": "x.bin"})),
    of_model("an index to a number", f"{INDEX}: weight_map sends 'a' to 1", sharded({"a": 1})),
    of_model(
        "an index to a null character",
        f"{INDEX}: names x\\x00.safetensors, which the folder lacks",
        sharded({"a": "x\0.safetensors"}),
    ),
    of_model("an index to a name too long", f"{INDEX}: names xxxx", sharded({"a": "x" * 5000 + ".safetensors"})),
    of_model(
        "an index to half a character",
        f"{INDEX}: names \\ud800.safetensors, which the folder lacks",
        sharded({"a": "\ud800.safetensors"}),
    ),
    of_model("an index that is a list", f"{INDEX}: has no weight_map", sharded(["x.safetensors"])),
    of_model("an index without a map", f"{INDEX}: has no weight_map", sharded(None)),
    of_model(
        "an index to nothing there",
        f"{INDEX}: names x.safetensors, which the folder lacks",
        sharded({"a": "x.safetensors"}),
    ),
    of_model(
        "an index to itself",
        f"{INDEX}: weight_map sends 'a' to 'model.safetensors.index.json'",
        sharded({"a": "model.safetensors.index.json"}),
    ),
    of_model("an index that is no JSON", f"{INDEX} line 1: not JSON", {WEIGHTS: None, INDEX: "{"}),
]
CASES = [*WRONG_WEIGHTS, *INDICES]
