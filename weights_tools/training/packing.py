"""Texts packed into rows of one length, which is what training reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from gpt2jax.tokenizer import Tokenizer
from svdtrace.prompts.language import Document


class Rows(NamedTuple):
    """Packed texts.

    Attributes:
        tokens: token ids.
        positions: where in its text, or in its row if that runs on, a token stands.
        text: the number of a token's text in its row; the same all along a row that runs on.
        determined: 0 for a token that could be another; those of a text that are determined by it share 1.
    """

    tokens: Int[np.ndarray, "row tok"]
    positions: Int[np.ndarray, "row tok"]
    text: Int[np.ndarray, "row tok"]
    determined: Float[np.ndarray, "row tok"]


def packed_rows(next_document: Callable[[], Document], tokenizer: Tokenizer, shape: tuple[int, int]) -> Rows:
    """Rows of whole texts, the last of them cut off.

    One row in four runs on: positions count through, and every text can attend to those before it. In the others each
    text stands alone, as a prompt does.

    Args:
        next_document: gives one text after another.
        tokenizer: its end-of-text token ends each text.
        shape: how many rows, of how many tokens.
    """
    rows = [_row(next_document, tokenizer, shape[1], runs_on=place % 4 == 3) for place in range(shape[0])]
    tokens, positions, text, determined = (np.array(each) for each in zip(*rows, strict=True))
    return Rows(
        tokens.astype(np.int32), positions.astype(np.int32), text.astype(np.int32), determined.astype(np.float32)
    )


def _row(
    next_document: Callable[[], Document], tokenizer: Tokenizer, length: int, *, runs_on: bool
) -> tuple[list[int], list[int], list[int], list[float]]:
    tokens: list[int] = []
    positions: list[int] = []
    text: list[int] = []
    determined: list[float] = []
    while len(tokens) < length:
        document = next_document()
        found, offsets = tokenizer.encode_with_offsets(document.text)
        ends = {end for _, end in document.determined}
        count = len(found) + 1
        positions += range(len(tokens), len(tokens) + count) if runs_on else range(count)
        text += [0 if runs_on else len(tokens)] * count
        tokens += [*found, tokenizer.bos_token_id]
        determined += [*(float(end in ends) / max(1, len(ends)) for _, end in offsets), 0.0]
    return tokens[:length], positions[:length], text[:length], determined[:length]


def padded(prompts: Sequence[Sequence[int]], length: int) -> Int[np.ndarray, "prompt tok"]:
    """Prompts as rows of one length, filled up on the right, where causal attention sees nothing of it."""
    rows = np.zeros((len(prompts), length), np.int32)
    for row, tokens in zip(rows, prompts, strict=True):
        row[: len(tokens)] = tokens
    return rows
