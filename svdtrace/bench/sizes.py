"""How much is measured: one dataclass, so that a test can ask for little."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """What a run measures; the defaults are those that the targets are stated for."""

    repeats: int = 3
    """How often what is timed is timed; medians are reported."""
    prompts: int = 256
    """Prompts of a trace."""
    tokens: int = 21
    """Tokens of a prompt."""
    firings: int = 60
    """Firings a prompt, to which random weights are scaled."""
    more_firings: tuple[int, ...] = (120, 240)
    """Firings a prompt at which a full run traces once more."""
    middling: tuple[int, int] = (16, 128)
    """Prompts, and tokens of each, of a full run's trace by relative attention at some length."""
    long_prompts: int = 4
    """Long prompts of a full run, in batches of `long_batch`."""
    long_tokens: int = 1024
    """Tokens of a long prompt."""
    long_batch: int = 2
    """Long prompts a batch."""
    swept: tuple[int, int] = (256, 2560)
    """Prompts of a full run's two sweeps; the first number is the size of a part, too."""
    matmul: int = 4096
    """Rows and columns of the matrices whose product gives the peak of arithmetic."""
    triad: int = 2**26
    """Values of each array whose weighted sum gives the peak of memory traffic."""
