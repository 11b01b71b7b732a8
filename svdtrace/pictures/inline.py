"""Pictures that show themselves in a notebook: the circuit, and a head's attention over a prompt's tokens."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from svdtrace.pictures.figures import circuit_figure
from svdtrace.pictures.style import BLUES, STYLE, save, written
from svdtrace.pictures.traced import Traced

LABELLED = 60
"""Tokens up to which each has its label."""


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows by itself; `save` writes it as `.svg`, `.png` or `.pdf`."""

    figure: Figure

    def __repr__(self) -> str:
        wide, high = self.figure.get_size_inches()
        return f"Picture({wide:.1f} x {high:.1f} inches; save(path) writes it)"

    def _repr_png_(self) -> bytes:
        with matplotlib.rc_context(STYLE):
            image = io.BytesIO()
            self.figure.savefig(image, format="png", dpi=100)
        return image.getvalue()

    def save(self, path: str | Path) -> None:
        """Write it.

        Raises:
            OutputError: another ending, or a place that cannot be written.
        """
        with matplotlib.rc_context(STYLE):
            save(self.figure, path)


def drawn(make: Callable[[], Figure]) -> Picture:
    """A figure that is made in the style of all pictures."""
    with matplotlib.rc_context(STYLE):
        return Picture(make())


def circuit_inline(trace: Traced, strongest: int = 40) -> Picture:
    """A trace's circuit in layers, as `svdtrace.pictures.figures.circuit_picture` draws it."""
    return drawn(lambda: circuit_figure(trace, strongest))


def pattern_inline(
    pattern: Float[np.ndarray, "dest src"], strings: Sequence[str], roles: Mapping[int, str], title: str
) -> Picture:
    """A head's attention over a prompt: destinations downwards, sources to the right.

    Args:
        strings: the tokens; roles: of positions that have one.
    """
    many = len(strings)
    side = min(9.0, 1.8 + 0.2 * many)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        axes.imshow(pattern, cmap=BLUES, vmin=0, vmax=1)
        axes.set(title=title, xlabel="source: attended to", ylabel="destination: attends")
        if many <= LABELLED:
            names = [
                written(text) + (f" ({written(roles[at])})" if at in roles else "") for at, text in enumerate(strings)
            ]
            axes.set_xticks(range(many), names, rotation=90)
            axes.set_yticks(range(many), names)
        return Picture(figure)
