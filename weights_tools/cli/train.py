"""`weights-tools train`: a small GPT-2 of our own making."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from weights_tools.cli.options import Folder
from weights_tools.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Options(Recipe):
    """Train a small GPT-2 on sentences of our own making, measure it, and write it with its card.

    Interrupted, it goes on where it was when the same command is given again, to the same weights bit for bit.

    The defaults made the model that comes with svdtrace, in 20 minutes: `weights-tools train --out mymodel`
    """

    out: Folder
    """a new or empty folder for model.safetensors, config.json, tokenizer.json and README.md."""


def run(options: Options) -> int:
    """Train, measure, write; prints how it goes."""
    from svdtrace.surroundings.telling import INTERRUPTED
    from weights_tools.training.kept import place_of
    from weights_tools.training.running import run

    try:
        run(options.out, options.recipe())
    except KeyboardInterrupt:
        place = place_of(options.out)
        if not place.exists():
            raise
        print(f"interrupted; {place} is kept, and the same command goes on from it", file=sys.stderr)
        return INTERRUPTED
    return 0
