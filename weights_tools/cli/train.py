"""`weights-tools train`: a small GPT-2 of our own making."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from weights_tools.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Options(Recipe):
    """Train a small GPT-2 on sentences of our own making, measure it, and write it with its card.

    The defaults made the model that comes with svdtrace: weights-tools train --out mymodel

    Args:
        out: a new or empty folder for model.safetensors, config.json, tokenizer.json and README.md.
    """

    out: Path


def run(options: Options) -> int:
    """Train, measure, write; prints how it goes."""
    from weights_tools.training.running import run

    run(options.out, options.recipe())
    return 0
