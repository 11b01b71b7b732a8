"""A model's fingerprint: a hash of what it computes with, never of a name."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import jax
import numpy as np

from gpt2jax.config import GPT2Config
from gpt2jax.params import Model

_NOT_COMPUTED_WITH = ("bos_token_id", "eos_token_id")


def fingerprint(model: Model) -> str:
    """SHA-256 over the configuration, the processing and every weight (name, dtype, shape, bytes), as hexadecimal."""
    digest = hashlib.sha256(beginning(model.config, model.processing))
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        array = np.ascontiguousarray(leaf)
        digest.update(head(jax.tree_util.keystr(path), array.dtype, array.shape))
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()


def beginning(config: GPT2Config, processing: str) -> bytes:
    """What is hashed before any weight: the configuration and the processing."""
    said = dataclasses.asdict(config)
    for name in _NOT_COMPUTED_WITH:
        said.pop(name)
    return json.dumps([said, processing], sort_keys=True).encode()


def head(key: str, dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """What is hashed before a weight's bytes.

    Args:
        key: its place in the parameters, as `jax.tree_util.keystr` writes it.
    """
    return f"{key} {dtype} {shape}".encode()
