"""Values as files and programs hold them, read alike: whole floats, gaps, NumPy's scalars; strings that can be kept."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from svdtrace.errors import PromptError

_MOST_DIGITS = 18


def plain(value: Any) -> Any:
    """A value as JSON would hold it, whatever source it came from, also within lists and mappings.

    A column of whole numbers with a gap is one of floats in pandas, datasets and parquet: 293.0 is 293, NaN is nothing.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray | np.bool_):
        return plain(value.tolist())
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real | Decimal):
        return _real(value)
    # The gap of pandas' own columns of whole numbers, without importing pandas.
    return None if type(value).__name__ == "NAType" else value


def _real(value: Any) -> Any:
    if value != value:
        return None
    number = float(value)
    return int(value) if number.is_integer() else number


def whole_number(text: str) -> int | None:
    """The whole number that digits stand for; `None` for what is none, or has more of them than any count here.

    Python itself refuses to read numbers of thousands of digits, and arrays those of more than 18.
    """
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def strings_in(value: Any) -> Iterator[str]:
    """All strings of a value, keys of mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from strings_in(name)
            yield from strings_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from strings_in(each)


def is_unicode(text: str) -> bool:
    """Whether a string can be written at all: half of a character, as where text was cut in UTF-16, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    r"""A string for messages and tables: what cannot be written stands as an escape, `\ud83d`."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_name(what: str, name: Any) -> None:
    """Hold a name (an id, a role's) against what files, pictures and terminals can show.

    Raises:
        PromptError: not a string, half of a character, or a control character or noncharacter, which XML cannot hold.
    """
    if not isinstance(name, str):
        raise PromptError(f"{what} is {name!r}; give a string")
    if not is_unicode(name):
        raise PromptError(f'{what} is "{printable(name)}", which is not valid Unicode; mend it')
    for character in name:
        if unicodedata.category(character) == "Cc" or ord(character) & 0xFFFE == 0xFFFE:
            raise PromptError(
                f"{what} is {name!a}, with the control character U+{ord(character):04X}, which graphs and "
                "pictures cannot hold; leave it out"
            )
