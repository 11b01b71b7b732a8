"""How results show themselves in a notebook: a small table, and numbers as shades; no script, nothing loaded."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float

CELL, GAP = 14, 2
SHADE = "0,114,178"


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "", more: int = 0) -> str:
    """A table as HTML, every text escaped.

    Args:
        more: how many rows are left out, said below it.
    """
    head = "".join(f'<th style="text-align:left">{escape(name)}</th>' for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{escape(shown(each))}</td>' for each in row) + "</tr>"
        for row in rows
    )
    above = f"<div><b>{escape(title)}</b></div>" if title else ""
    below = f"<div>and {more:,} more</div>" if more > 0 else ""
    return f"{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"


def shown(value: object) -> str:
    """A value as a table has it: floats to four digits, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float | np.floating):
        return f"{float(value):.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def heat_map(values: Float[np.ndarray, "row column"], title: str, row: str, column: str) -> str:
    """Numbers of 0 and above as shades of squares, the first row at the bottom, each with its number on pointing.

    Args:
        title, row, column: what the numbers, rows and columns are called.
    """
    n_rows, n_columns = values.shape
    largest = float(np.max(values, initial=0.0)) or 1.0
    step = CELL + GAP
    width, height = 26 + n_columns * step, 16 + n_rows * step
    squares = []
    for (at, place), value in np.ndenumerate(values):
        x, y = 24 + place * step, (n_rows - 1 - at) * step
        shade = 0.07 + 0.93 * max(0.0, float(value)) / largest
        name = f"{row} {at}, {column} {place}: {shown(float(value))}"
        squares.append(
            f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="2" fill="rgba({SHADE},{shade:.2f})">'
            f"<title>{escape(name)}</title></rect>"
        )
    every = max(1, n_columns // 12)
    labels = [
        *(f'<text x="18" y="{(n_rows - 1 - at) * step + 11}" text-anchor="end">{at}</text>' for at in range(n_rows)),
        *(
            f'<text x="{24 + at * step + CELL / 2}" y="{n_rows * step + 11}" text-anchor="middle">{at}</text>'
            for at in range(0, n_columns, every)
        ),
    ]
    return (
        f'<div>{escape(title)}: {escape(row)}s upwards, {escape(column)}s to the right</div><svg width="{width}" '
        f'height="{height}" font-size="10" font-family="sans-serif" fill="currentColor">'
        f"{''.join(squares)}{''.join(labels)}</svg>"
    )
