"""A picture of patches: what each head and the residual at each role gives back, measured and estimated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from svdtrace.pictures.colours import DEST, INK, PAPER, SRC
from svdtrace.pictures.style import STYLE, nothing, save, written

SHADES = LinearSegmentedColormap.from_list("svdtrace both ways", [SRC, PAPER, DEST])
MOST_LABELLED = 200


def patching_picture(table: pa.Table, path: str | Path) -> None:
    """Draw heat maps, layers upwards: heads above, roles below; patches on the left, their estimates on the right.

    Args:
        table: of patches.
        path: ends in `.svg`, `.png` or `.pdf`.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    with matplotlib.rc_context(STYLE):
        save(_maps(table), path)


def _maps(table: pa.Table) -> Figure:
    rows = table.to_pylist()
    if not any(row["recovered"] is not None for row in rows):
        return nothing("The corruption takes nothing that could be given back.")
    kinds = [(label, names) for label in ("head", "role") if (names := _names(rows, label))]
    n_layers = 1 + max(row["layer"] for row in rows)
    widest = max(len(names) for _, names in kinds)
    height = sum(0.26 * n_layers + (1.5 if label == "role" else 0.8) for label, _ in kinds)
    figure = Figure(figsize=(2 * max(2.8, 0.4 * widest + 0.8) + 0.8, height + 0.4), layout="constrained")
    panels = figure.subplots(len(kinds), 2, squeeze=False)
    values = ("recovered", "attribution")
    most = max(abs(row[name]) for row in rows for name in values if row[name] is not None)
    image: Any = None
    for line, (label, names) in zip(panels, kinds, strict=True):
        for axes, value in zip(line, values, strict=True):
            image = _map(axes, rows, label, names, value, n_layers, max(most, 1.0))
            how = "patched" if value == "recovered" else "as the gradient estimates"
            axes.set_title(f"{'one head' if label == 'head' else 'residual at one role'}, {how}")
    scale: Any = figure.colorbar(image, ax=panels.ravel().tolist(), shrink=0.7, aspect=24)
    scale.set_label("share given back, (patched − corrupt) / (clean − corrupt)")
    scale.outline.set_visible(False)
    return figure


def _names(rows: list[dict[str, Any]], label: str) -> list[Any]:
    return list(dict.fromkeys(row[label] for row in rows if row[label] is not None))


def _map(
    axes: Axes, rows: list[dict[str, Any]], label: str, names: list[Any], value: str, n_layers: int, most: float
) -> Any:
    grid = np.full((n_layers, len(names)), np.nan)
    for row in rows:
        if row[label] is not None and row[value] is not None:
            grid[row["layer"], names.index(row[label])] = row[value]
    image = axes.imshow(grid, SHADES, origin="lower", aspect="auto", vmin=-most, vmax=most)
    if grid.size <= MOST_LABELLED:
        for (layer, place), each in np.ndenumerate(grid):
            if np.isfinite(each) and abs(each) >= 0.005:
                colour = PAPER if abs(each) > 0.6 * most else INK
                axes.text(place, layer, f"{each:.2f}", ha="center", va="center", size=6.5, color=colour)
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if label == "role" else {}
    axes.set_xticks(range(len(names)), [written(str(name)) for name in names], **turned)
    axes.set(xlabel="head" if label == "head" else "", ylabel="layer", yticks=range(n_layers))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image
