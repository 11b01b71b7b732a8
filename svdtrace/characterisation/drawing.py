"""What the pictures of a characterisation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from svdtrace.pictures.colours import DEST, INK, PAPER, SRC
from svdtrace.pictures.style import BLUES

COLOURS = (DEST, SRC)
DASHES: tuple[Any, ...] = ("solid", (0, (4.5, 2.2)))
MOST_LABELLED = 200


def column(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers; null becomes NaN."""
    return table[name].cast(pa.float64()).to_numpy(zero_copy_only=False)


def only(table: pa.Table, **values: Any) -> pa.Table:
    """The rows that have these values."""
    for name, value in values.items():
        table = table.filter(pc.field(name) == value)
    return table


def data_sets(table: pa.Table) -> list[str]:
    """The data sets of a table, the prompts first."""
    return sorted(set(table["data_set"].to_pylist()), reverse=True)


def heat_map(axes: Axes, grid: np.ndarray, most: float, form: str | None, shades: Colormap = BLUES) -> Any:
    """Draw numbers [row column] from 0 to `most` as shades, row 0 at the bottom, with the numbers where they fit."""
    image = axes.imshow(grid, shades, origin="lower", aspect="auto", vmin=0, vmax=most)
    if form is not None and grid.size <= MOST_LABELLED:
        for (row, place), value in np.ndenumerate(grid):
            text = "" if np.isnan(value) else form.format(value)
            colour = PAPER if value > 0.5 * most else INK
            axes.text(place, row, text, ha="center", va="center", size=7, color=colour)
        axes.set(xticks=range(grid.shape[1]), yticks=range(grid.shape[0]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def bar(figure: Figure, image: Any, axes: list[Axes], label: str) -> None:
    """The scale of shades beside some axes."""
    scale = figure.colorbar(image, ax=axes, shrink=0.9, aspect=18, label=label)
    scale.outline.set_visible(False)


def plain(axes: Axes) -> None:
    """Faint lines to read values by."""
    axes.grid(axis="y", color="#e4e1da", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=2)
