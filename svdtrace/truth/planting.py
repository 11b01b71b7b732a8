"""From the name of a family to a model whose circuit is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gpt2jax.params import Model
from svdtrace.config import check_seed
from svdtrace.errors import SettingError
from svdtrace.truth import families
from svdtrace.truth.background import add_background
from svdtrace.truth.circuits import Circuit, Wire
from svdtrace.truth.drawing import Drawing, mirrored


@dataclass(frozen=True)
class Truth:
    """What is true of a planted model.

    Args:
        family, strength, seed: what it was made of, by which it can be made anew; None of a model made elsewhere.
        roots: where tracing shall start.
        edges: the true edges with their planted shares.
        signals: for each of them an orthonormal basis of what its reader was made to read on that side, in the
            residual.
    """

    family: str | None
    strength: float | None
    seed: int | None
    roots: str
    edges: dict[Wire, float]
    signals: dict[Wire, Float[np.ndarray, "d_model r"]]


@dataclass(frozen=True)
class Planted:
    """A model, its circuit, and what is true of them."""

    model: Model
    circuit: Circuit
    truth: Truth


def plant(family: str, strength: float = 0.0, seed: int = 0) -> Planted:
    """Make a model with a circuit of a family in it.

    Args:
        family: a name in `families.FAMILIES`.
        strength: of the background, see `svdtrace.truth.background`; 0 for none.
        seed: draws prompts, gains and biases of LayerNorm, and the background.

    Raises:
        SettingError: no such family, or a strength or seed that is negative.
    """
    if family not in families.FAMILIES:
        raise SettingError(f'there is no family "{family}"; choose one of {", ".join(families.FAMILIES)}')
    if not (math.isfinite(strength) and strength >= 0):
        raise SettingError(f"strength is {strength}; give 0 or more")
    check_seed(seed)
    of_prompts, of_gains, of_background = np.random.default_rng(seed).spawn(3)
    drawing = Drawing(families.CONFIG, families.SCALES)
    circuit = families.FAMILIES[family](drawing, of_prompts)
    edges = circuit.edges()
    signals = {wire: drawing.signal(_head(wire.reader), wire.side) for wire in edges}
    if strength:
        signal = float(np.linalg.norm(mirrored(families.SIGNAL * families.REST)))
        add_background(drawing, strength, signal, of_background)
    model = drawing.model(families.EMBEDDING, families.PLACE, of_gains)
    return Planted(model, circuit, Truth(family, float(strength), seed, circuit.roots, edges, signals))


def _head(name: str) -> tuple[int, int]:
    layer, head = map(int, name.split("."))
    return layer, head
