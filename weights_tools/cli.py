"""The command `weights-tools`: what happens to checkpoint files, one subcommand each.

What runs a command is imported when it runs, with the libraries that it alone needs.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro

from svdtrace.surroundings.objections import understood
from svdtrace.surroundings.streams import usable_streams
from svdtrace.surroundings.telling import tell, warnings_as_notes
from weights_tools.recipe import Recipe

PROGRAM = "weights-tools"
DONE = 0


@dataclass(frozen=True, kw_only=True)
class Train(Recipe):
    """Train a small GPT-2 on sentences of our own making, measure it, and write it with its card.

    The defaults made the model that comes with svdtrace: weights-tools train --out mymodel

    Args:
        out: a new or empty folder for model.safetensors, config.json, tokenizer.json and README.md.
    """

    out: Path


@dataclass(frozen=True, kw_only=True)
class Plant:
    """Make a small GPT-2 with a circuit in it that is known, among random heads and MLPs.

    Then: svdtrace score-truth DIR

    Args:
        family: induction, chain, inhibition, redundant, decoys or superposition; docs/truth.md describes them.
        out: a new or empty folder for the model, its prompts.jsonl and truth.json.
        strength: of the random heads and MLPs; at 1 each writes as much as a planted head, at 0 there are none.
        seed: draws prompts, gains and biases of LayerNorm, random heads and MLPs.
    """

    family: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FAMILY")]
    out: Path
    strength: float = 0.0
    seed: int = 0


def _train(options: Train) -> None:
    from weights_tools.train_command import run

    run(options.out, options.recipe())


def _plant(options: Plant) -> None:
    from svdtrace.truth.folder import write
    from svdtrace.truth.planting import plant

    planted = plant(options.family, options.strength, options.seed)
    write(planted, options.out)
    print(
        f"{options.out}: {options.family} with {len(planted.truth.edges)} edges from {planted.truth.roots}, "
        f"{len(planted.circuit.prompts)} prompts; svdtrace score-truth {shlex.quote(str(options.out))} traces it"
    )


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {"train": (Train, _train), "plant": (Plant, _plant)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments, by default those of the process.

    Returns:
        The exit status: 0 done, 2 cannot (one line `error: …` on standard error), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with usable_streams(), warnings_as_notes():
        try:
            options = parse(arguments)
            if options is not None:
                next(run for kind, run in COMMANDS.values() if kind is type(options))(options)
            return DONE
        except (Exception, KeyboardInterrupt) as error:
            return tell(error)


def parse(arguments: Sequence[str]) -> Any | None:
    """The options of the command that the arguments name; `None` where help was asked for and given.

    Raises:
        OptionError: arguments that cannot be understood.
    """
    kinds: list[Any] = [
        Annotated[kind, tyro.conf.subcommand(name, description=_summary(kind, name, arguments))]
        for name, (kind, _) in COMMANDS.items()
    ]
    choice: Any = reduce(or_, kinds)

    def options() -> Any:
        return tyro.cli(choice, prog=PROGRAM, description="What happens to checkpoint files.", args=list(arguments))

    return understood(options, PROGRAM, COMMANDS, arguments)


def _summary(kind: type, name: str, arguments: Sequence[str]) -> str | None:
    return None if list(arguments[:1]) == [name] else (kind.__doc__ or "").split("\n", 1)[0]
