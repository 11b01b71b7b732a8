"""What a model folder can be used for, what it lacks for the rest, and what is strange about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2jax.activations import activation
from gpt2jax.checkpoint import Contents, find_contents
from gpt2jax.config import GPT2Config, is_tied, lacks_lm_head
from gpt2jax.errors import CheckpointError, ConfigError, GPT2JaxError
from gpt2jax.layout import CONFIG_FILE
from gpt2jax.load import read_config
from gpt2jax.tokenizer_files import TOKENIZER_FILE, VOCABULARY_FILES, read_files

FORWARD, DECOMPOSE, TEXTS = "forward", "decompose", "texts"


@dataclass(frozen=True)
class Use:
    """Whether something can be done with a folder; `why` not, or `None`."""

    name: str
    why: str | None = None


@dataclass(frozen=True)
class Standing:
    """How a folder stands: its configuration, its uses, what is strange. `heads` is `None` where none can be read."""

    config: GPT2Config | None
    uses: tuple[Use, ...]
    strange: tuple[str, ...]
    tokenizer: str | None
    tied: bool | None = None
    heads: Contents | None = None


def standing(folder: Path, not_finite: Mapping[str, int]) -> Standing:
    """Look into a folder by its headers alone.

    Args:
        folder: a model folder.
        not_finite: how many values are not finite, of the tensors where there are such, by their own names.
    """
    try:
        _, raw, config = read_config(folder)
        tied = is_tied(raw, str(folder / CONFIG_FILE))
    except ConfigError as failure:
        why = str(failure)
        return Standing(None, tuple(Use(name, why) for name in (FORWARD, DECOMPOSE, TEXTS)), (), None)
    whole, why_not = _contents(folder, raw, config, tied, None, not_finite)
    heads, no_heads = _contents(folder, raw, config, tied, "heads", not_finite)
    if whole is not None and why_not is None:
        why_not = _not_run(config)
    tokenizer, no_texts, strange = _tokenizer(folder, config)
    known = whole or heads
    return Standing(
        config,
        (Use(FORWARD, why_not), Use(DECOMPOSE, no_heads), Use(TEXTS, no_texts)),
        (*(known.notes if known is not None else ()), *strange),
        tokenizer,
        tied,
        heads if no_heads is None else None,
    )


def _contents(
    folder: Path, raw: dict[str, Any], config: GPT2Config, tied: bool, parts: str | None, not_finite: Mapping[str, int]
) -> tuple[Contents | None, str | None]:
    try:
        held = find_contents(folder, config, tied=tied, headless=lacks_lm_head(raw), parts=parts)
    except CheckpointError as failure:
        return None, str(failure)
    bad = [name for name in (each.name for each in held.tensors.values()) if name in not_finite]
    return held, f"values that are not finite in {', '.join(bad)}; fetch the weights again" if bad else None


def _not_run(config: GPT2Config) -> str | None:
    try:
        activation(config.activation)
    except ConfigError as failure:
        return str(failure)
    return None


def _tokenizer(folder: Path, config: GPT2Config) -> tuple[str | None, str | None, tuple[str, ...]]:
    """What the tokenizer is, why it cannot be used, and what is strange about it."""
    try:
        found = read_files(folder, config)
    except GPT2JaxError as failure:
        return None, str(failure), ()
    if found is None:
        return None, f"{folder}: no tokenizer; give prompts as token ids, or fetch its files too", ()
    if found.library is None:
        return " and ".join(sorted(found.files)), found.unread, ()
    kind = TOKENIZER_FILE if TOKENIZER_FILE in found.files else " with ".join(VOCABULARY_FILES)
    ids = found.library.get_vocab(with_added_tokens=True)
    beyond = sorted((i, token) for token, i in ids.items() if i >= config.d_vocab and i != found.lost)
    strange = list(found.notes)
    if beyond:
        first = f"{beyond[0][1]!r} is {beyond[0][0]}"
        strange.append(
            f"the tokenizer is larger than the vocabulary of {config.d_vocab}: {len(beyond)} of its tokens have no "
            f"embedding ({first}); texts that hold one are refused"
        )
    return kind, None, tuple(strange)
