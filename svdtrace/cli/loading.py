"""Models and prompts from options."""

from __future__ import annotations

from collections.abc import Collection

import gpt2jax
from gpt2jax.config import GPT2Config
from gpt2jax.errors import ConfigError
from gpt2jax.hub import model_folder
from gpt2jax.json_file import parse_json, read_bytes
from gpt2jax.layout import CONFIG_FILE
from gpt2jax.tokenizer import Tokenizer
from svdtrace import prompts as sources
from svdtrace.bundled.model import bundled_folder
from svdtrace.cli.compilation import keep_compiled
from svdtrace.cli.options import BUNDLED, PromptChoice
from svdtrace.errors import OptionError
from svdtrace.prompts.prompt import Prompt


def source_of(name: str) -> str:
    """The folder or hub id that `--model` means.

    Raises:
        ModelError: the bundled model is asked for, but not in this installation.
    """
    if name != BUNDLED:
        return name
    return str(bundled_folder())


def load_model(name: str, processing: str = "raw", parts: str | Collection[str] | None = None) -> gpt2jax.Model:
    """The model that `--model` names, with compiled programs kept on disk from here on."""
    keep_compiled()
    return gpt2jax.load(source_of(name), processing=processing, parts=parts)


def load_tokenizer(name: str) -> tuple[Tokenizer | None, GPT2Config]:
    """Tokenizer and configuration alone, for what needs no weights."""
    folder = model_folder(source_of(name))
    where = folder / CONFIG_FILE
    content = read_bytes(where, ConfigError, "give a Hugging Face GPT-2 folder, with its config.json")
    config = GPT2Config.from_hf(parse_json(content, where, ConfigError), str(where))
    return Tokenizer.read(folder, config), config


def read_prompts(choice: PromptChoice, tokenizer: Tokenizer | None, config: GPT2Config) -> list[Prompt]:
    """The prompts of `--prompts`, then those of `--text`.

    Raises:
        OptionError: neither is given, or a negative seed.
        PromptError: one of them cannot be used.
    """
    if choice.seed < 0:
        raise OptionError(f"--seed is {choice.seed}; give 0 or more")
    if choice.prompts is None and not choice.text:
        raise OptionError(
            'no prompts are given; give --prompts FILE, --prompts ioi:64 or --text "When Mary and John …"'
        )
    found: list[Prompt] = []
    if choice.prompts is not None:
        found += sources.read(choice.prompts, tokenizer, config=config, bos=choice.bos, seed=choice.seed)
    return found + sources.from_texts(choice.text, tokenizer, config=config, bos=choice.bos)
