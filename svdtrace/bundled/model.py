"""The model that comes with the project."""

from __future__ import annotations

from pathlib import Path

import gpt2jax
from svdtrace.errors import ModelError


def bundled_folder() -> Path:
    """Its folder, in Hugging Face's format; the README in it says how it was trained and what it can do.

    Raises:
        ModelError: this installation lacks it.
    """
    folder = Path(__file__).parent
    if not (folder / "config.json").exists():
        raise ModelError(f"{folder}: the bundled model is not there; install svdtrace anew, or name another model")
    return folder


def bundled_model() -> gpt2jax.Model:
    """The bundled model, raw.

    Raises:
        ModelError: this installation lacks it.
    """
    return gpt2jax.load(str(bundled_folder()))
