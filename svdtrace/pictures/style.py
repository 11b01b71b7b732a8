"""How every picture looks: shades, fonts, the form of its file.

    with matplotlib.rc_context(STYLE):
        save(figure, "sizes.svg")

The colours are those of `svdtrace.pictures.colours`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from svdtrace.errors import OutputError
from svdtrace.pictures.colours import INK, PAPER, SOFT
from svdtrace.pictures.connections import SIDES
from svdtrace.surroundings.paths import path_of

BLUES = LinearSegmentedColormap.from_list("svdtrace", ["#eaf1f6", "#9cc4de", "#2f86bd", "#0a4a78"])
ORANGES = LinearSegmentedColormap.from_list("svdtrace oranges", ["#f8ede6", "#f2b48c", "#d96a1f", "#7d3200"])
SIDE_SHADES: dict[str, LinearSegmentedColormap] = dict(zip(SIDES, (BLUES, ORANGES), strict=True))
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "figure.facecolor": PAPER,
    "savefig.dpi": 200,
    "svg.hashsalt": "svdtrace",
    # Text stays text: it can be found, edited and read aloud.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_METADATA: dict[str, dict[str, None]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def nothing(text: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure = Figure(figsize=(5, 1.6))
    figure.text(0.5, 0.5, text, ha="center", va="center", size=11, color=SOFT)
    return figure


def written(string: str) -> str:
    """A token or a role's name as it can stand in a picture: line breaks and characters that cannot be drawn written
    out, nothing taken for a formula.
    """
    return repr(string)[1:-1].replace("$", r"\$")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as `.svg`, `.png` or `.pdf`, the same bytes each time.

    Raises:
        OutputError: another ending, or a place that cannot be written.
    """
    path = path_of(path)
    if path.suffix not in _METADATA:
        raise OutputError(f"{path}: no picture format is named {path.suffix!r}; end the name in .svg, .png or .pdf")
    try:
        figure.savefig(path, metadata=_METADATA[path.suffix])
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); name another place") from None
