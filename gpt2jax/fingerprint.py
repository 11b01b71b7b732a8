"""A model's fingerprint: a hash of what it computes with, never of a name."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import jax
import numpy as np

from gpt2jax.params import Model

_NOT_COMPUTED_WITH = ("bos_token_id", "eos_token_id")


def fingerprint(model: Model) -> str:
    """SHA-256 over the configuration, the processing and every weight (name, dtype, shape, bytes), as hexadecimal."""
    config = dataclasses.asdict(model.config)
    for name in _NOT_COMPUTED_WITH:
        config.pop(name)
    digest = hashlib.sha256(json.dumps([config, model.processing], sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.params):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(array.view(np.uint8).data)
    return digest.hexdigest()
