"""Numbers as the page's data holds them: short, and never NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from jinja2.utils import htmlsafe_json_dumps


def rounded(value: float | int | None, digits: int = 4) -> float | int | None:
    """A number to some significant digits, `None` where there is none.

    Args:
        value: any number; NaN and infinities count as none.
        digits: significant ones.
    """
    if value is None or not math.isfinite(value):
        return None
    return _shortest(float(f"{value:.{digits}g}"))


def all_rounded(values: Iterable[Any], digits: int = 4) -> list[float | int | None]:
    """`rounded` of every value.

    Args:
        values: numbers.
        digits: significant ones.
    """
    return [rounded(float(value), digits) for value in values]


def rounded_at(values: Float[np.ndarray, " row"], place: Int[np.ndarray, " row"]) -> list[float | int]:
    """Many numbers, each to a decimal place of its own: 2 for hundredths, -1 for tens.

    Args:
        values: finite.
        place: of the last digit that is kept.
    """
    scale = 10.0 ** np.abs(place)
    short = np.where(place < 0, np.rint(values / scale) * scale, np.rint(values * scale) / scale)
    return [_shortest(each) for each in short.tolist()]


def last_place(size: Float[np.ndarray, " row"], digits: int) -> Int[np.ndarray, " row"]:
    """The decimal place of the last of some significant digits, see `rounded_at`; 0 for 0.

    Args:
        size: 0 or above.
        digits: significant ones.
    """
    return np.where(size > 0, digits - 1 - np.floor(np.log10(np.where(size > 0, size, 1.0))), 0).astype(int)


def _shortest(value: float) -> float | int:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def as_json(value: Any) -> str:
    """JSON that is safe inside a `<script>` element: `<`, `>`, `&`, `'` and all that is not ASCII are escaped.

    Args:
        value: what `json` can write.
    """
    return str(htmlsafe_json_dumps(value, separators=(",", ":"), allow_nan=False))


def size_of(value: Any) -> int:
    """Bytes that a value takes in the page.

    Args:
        value: what `json` can write.
    """
    return len(as_json(value))
