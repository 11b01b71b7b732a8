"""Random heads and MLPs around what is planted."""

from __future__ import annotations

import numpy as np

from svdtrace.truth.drawing import Drawing

SHARPNESS = 4.0
"""Standard deviation of a random head's scores at strength 1: enough for it to fire now and then."""
# Root mean square of GELU of a standard normal number: E[x² Φ(x)²] = 1/3 + 1/(2π√3) = 0.425.
GELU_SIZE = 0.652


def add_background(drawing: Drawing, strength: float, signal: float, rng: np.random.Generator) -> None:
    """Give every head that is still empty, and every MLP, random weights.

    Args:
        strength: 0 draws nothing. Scores of a random head have standard deviation `SHARPNESS × strength`; a random
            head that attends to one token, and an MLP, write `strength × signal`.
        signal: the norm of what a planted head writes.
        rng: draws as much at every strength, so that a stronger background is the same background, scaled.
    """
    d, h, e = drawing.config.d_model, drawing.config.d_head, drawing.config.d_mlp
    W = drawing.W
    # A normalised residual has norm √d.
    of_scores, of_output = np.sqrt(SHARPNESS * strength / d), strength * signal
    for head in drawing.free_heads():
        W["Q"][head], W["K"][head] = of_scores * rng.normal(size=(2, d, h))
        W["V"][head] = rng.normal(size=(d, h)) / np.sqrt(d)
        W["O"][head] = of_output / np.sqrt(h * d) * rng.normal(size=(h, d))
    W["in"][...] = rng.normal(size=W["in"].shape) / np.sqrt(d)
    W["out"][...] = of_output / (GELU_SIZE * np.sqrt(e * d)) * rng.normal(size=W["out"].shape)
