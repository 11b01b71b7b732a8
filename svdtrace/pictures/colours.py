"""The colours of every picture: those of Okabe and Ito, which differ for every kind of colour vision.

What they tell apart differs in its dashes or marks too, so that it survives a grey print. Files of graphs have them
too, which are written without a drawing program.
"""

from __future__ import annotations

from typing import Any

from svdtrace.pictures.connections import SIDES

DEST, SRC, PALE = "#0072b2", "#d55e00", "#7fb8d8"
INK, SOFT, PAPER = "#1b1e23", "#5c6470", "#ffffff"
FILLS = ("#cfeadf", "#fbf3c0", "#f6d9e8", "#dcd6ee", "#d9d9d9", "#cfe3f1", "#f9dcc4")
"""Pale forms of Okabe and Ito's colours, for communities; those of the two sides come last."""
BANDS = ("#f3f1ed", "#faf9f6")
SIDE_COLOURS: dict[str, str] = dict(zip(SIDES, (DEST, SRC), strict=True))
SIDE_DASHES: dict[str, Any] = {"dest": "solid", "src": (0, (4.5, 2.2))}
