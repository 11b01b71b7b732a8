"""Numbers as the page's data holds them: short, and never NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from jinja2.utils import htmlsafe_json_dumps


def rounded(value: float | None, digits: int = 4) -> float | int | None:
    """A number to some significant digits, `None` where there is none.

    Args:
        value: any number; NaN and infinities count as none.
        digits: significant ones.
    """
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def all_rounded(values: Iterable[Any], digits: int = 4) -> list[float | int | None]:
    """`rounded` of every value.

    Args:
        values: numbers.
        digits: significant ones.
    """
    return [rounded(float(value), digits) for value in values]


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
