"""Options that commands share."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self

import tyro

from svdtrace.config import TraceConfig

Flat = tyro.conf.arg(name="")
Flag = tyro.conf.FlagCreatePairsOff
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
PROGRAM = "svdtrace"
BUNDLED = "bundled"


@dataclass(frozen=True)
class Voice:
    """How much is said, and in what form."""

    quiet: Flag[bool] = False
    """No progress bar and no closing table; errors are still told."""
    json: Flag[bool] = False
    """Print the closing table as one JSON object, alone on standard output."""


@dataclass(frozen=True)
class ModelChoice:
    """Which model."""

    model: Annotated[str, tyro.conf.arg(metavar="MODEL")] = BUNDLED
    """Hugging Face GPT-2 folder or hub id; "bundled" is the small model that comes with svdtrace."""
    revision: Annotated[str | None, tyro.conf.arg(metavar="REVISION", help_behavior_hint="")] = None
    """Branch, tag or commit of a hub id; MODEL@REVISION means the same."""


@dataclass(frozen=True)
class PromptChoice:
    """Which prompts."""

    prompts: Annotated[str | None, tyro.conf.arg(metavar="SOURCE", help_behavior_hint="")] = None
    """File (.jsonl, .jsonl.gz, .parquet), folder of such files, - for standard input, or a generator:
    ioi:N[:SEED], ordinary:N[:SEED], text:FILE:LENGTH."""
    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="TEXT")] = ()
    """A prompt by itself; may be given several times."""
    bos: Flag[bool] = False
    """Put the beginning-of-text token before every prompt."""
    seed: int = 0
    """Seed of generators that name none."""


@dataclass(frozen=True)
class ConfigChoice:
    """A file of settings."""

    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="")] = None
    """JSON file of settings, or a trace's manifest.json, whose settings are then used; options override it."""


@dataclass(frozen=True)
class EvidenceChoice:
    """What further is asked of the edges."""

    fdr: Annotated[float | None, tyro.conf.arg(metavar="RATE", help_behavior_hint="")] = None
    """Keep only edges that survive this false-discovery rate against random slices, random bases and shuffled prompts,
    above 0 and at most 1 (METHOD.md, section 12)."""
    nulls: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """How many draws of each null; by default enough for --fdr 0.05. Alone: test the edges and keep them all."""
    blocks: Annotated[float | None, tyro.conf.arg(metavar="SHARE", help_behavior_hint="")] = None
    """Hold claims by blocks against the nulls: singular vectors whose σ lie this close to a neighbour's, relatively
    (0.01: within 1 %), come into a slice together or not at all; from 0 to below 1. Alone: as --nulls alone."""
    stability: Flag[bool] = False
    """Trace again with other settings and say of each edge in what share of these traces it is (section 13)."""


def given(*choices: Any) -> str:
    """Options as they would be typed, a space before each: those of `choices` that are not at their defaults."""
    said = ""
    for choice in choices:
        default = type(choice)()
        for name in (each.name for each in fields(choice)):
            value = getattr(choice, name)
            if value == getattr(default, name):
                continue
            option = f" --{name.replace('_', '-')}"
            several = value if isinstance(value, tuple) else (value,)
            said += "".join(option if each is True else f"{option} {shlex.quote(str(each))}" for each in several)
    return said


@dataclass(frozen=True)
class Tracing:
    """What every command that traces prompts under settings of its own is asked."""

    inputs: Annotated[ModelChoice, Flat] = field(default_factory=ModelChoice)
    prompts: Annotated[PromptChoice, Flat] = field(default_factory=PromptChoice)
    out: Folder = Path("trace")
    """Folder to write: new, empty, or an earlier result, which is replaced."""
    file: Annotated[ConfigChoice, Flat] = field(default_factory=ConfigChoice)
    settings: Annotated[TraceConfig, Flat] = field(default_factory=TraceConfig)
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)

    @classmethod
    def configured(cls, settings: TraceConfig) -> Self:
        """The defaults, with settings from a file."""
        return cls(settings=settings)
