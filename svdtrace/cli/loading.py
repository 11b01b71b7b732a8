"""Models and prompts from options."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import replace

import gpt2jax
from gpt2jax.config import GPT2Config
from gpt2jax.hub import find_model
from gpt2jax.load import read_config
from gpt2jax.tokenizer import Tokenizer
from svdtrace import prompts as sources
from svdtrace.bundled.model import bundled_folder
from svdtrace.cli.compilation import keep_compiled
from svdtrace.cli.options import BUNDLED, ModelChoice, PromptChoice, Voice
from svdtrace.cli.terminal import tell_notes
from svdtrace.config import check_seed
from svdtrace.errors import OptionError
from svdtrace.prompts.prompt import Prompt
from svdtrace.surroundings.streams import visible


def source_of(name: str) -> str:
    """The folder or hub id that `--model` means.

    Raises:
        ModelError: the bundled model is asked for, but not in this installation.
    """
    if name != BUNDLED:
        return name
    return str(bundled_folder())


def load_model(choice: ModelChoice, voice: Voice, parts: str | Collection[str] | None = None) -> gpt2jax.Model:
    """The model that `--model` and `--revision` name, with compiled programs kept on disk from here on; what is to be
    said of its checkpoint is said on standard error.
    """
    keep_compiled()
    model = gpt2jax.load(source_of(choice.model), revision=choice.revision, parts=parts)
    tell_notes(choice.model, model.origin.notes, voice)
    return model


def load_tokenizer(choice: ModelChoice) -> tuple[Tokenizer | None, GPT2Config]:
    """Tokenizer and configuration alone, for what needs no weights."""
    folder = find_model(source_of(choice.model), choice.revision).folder
    _, _, config = read_config(folder)
    return Tokenizer.read(folder, config), config


def read_prompts(choice: PromptChoice, tokenizer: Tokenizer | None, config: GPT2Config) -> list[Prompt]:
    """The prompts of `--prompts`, then those of `--text`; empty lines among them are told.

    Raises:
        OptionError: neither is given.
        SettingError: a seed out of its range.
        PromptError: one of them cannot be used.
    """
    check_seed(choice.seed, "--seed")
    if choice.prompts is None and not choice.text:
        raise OptionError(
            'no prompts are given; give --prompts FILE, --prompts ioi:64 or --text "When Mary and John …"'
        )
    found: list[Prompt] = []
    if choice.prompts is not None:
        found += sources.read(choice.prompts, tokenizer, config=config, bos=choice.bos, seed=choice.seed)
        _tell_empty(choice.prompts, found)
    before = found[-1].place + 1 if found and found[-1].place is not None else 0
    texts = sources.from_texts(choice.text, tokenizer, config=config, bos=choice.bos)
    return found + [replace(prompt, place=before + number) for number, prompt in enumerate(texts)]


def places_of(prompts: Sequence[Prompt]) -> list[int]:
    """The prompts' 0-based places in their input."""
    return [number if prompt.place is None else prompt.place for number, prompt in enumerate(prompts)]


def passed_over(prompts: Sequence[Prompt]) -> int:
    """How many empty lines stand before the last of the prompts."""
    return places_of(prompts)[-1] + 1 - len(prompts)


def _tell_empty(source: str, prompts: Sequence[Prompt]) -> None:
    many = passed_over(prompts)
    if many:
        lines = "1 line is" if many == 1 else f"{many:,} lines are"
        print(visible(f"note: {source}: {lines} empty; later prompts keep the numbers of their lines"), file=sys.stderr)
