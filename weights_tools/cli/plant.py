"""`weights-tools plant`: a small GPT-2 with a circuit in it that is known."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Annotated

import tyro

from weights_tools.cli.options import Folder


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make a small GPT-2 with a circuit in it that is known, among random heads and MLPs.

    For example: `weights-tools plant induction --out planted --strength 0.3`

    Then: `svdtrace score-truth planted`
    """

    family: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FAMILY")]
    """One of induction, chain, inhibition, redundant, decoys and superposition, which truth.md describes."""
    out: Folder
    """Folder to write, new or empty: the model, its prompts.jsonl and truth.json."""
    strength: float = 0.0
    """Of the random heads and MLPs; at 1 each writes as much as a planted head, at 0 there are none."""
    seed: int = 0
    """Draws prompts, gains and biases of LayerNorm, random heads and MLPs."""


def run(options: Options) -> int:
    """Plant and write; prints what was planted."""
    from svdtrace.truth.folder import write
    from svdtrace.truth.planting import plant

    planted = plant(options.family, options.strength, options.seed)
    write(planted, options.out)
    print(
        f"{options.out}: {options.family} with {len(planted.truth.edges)} edges from {planted.truth.roots}, "
        f"{len(planted.circuit.prompts)} prompts; svdtrace score-truth {shlex.quote(str(options.out))} traces it"
    )
    return 0
