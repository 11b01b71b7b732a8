"""Single prompts packed for the page: their JSON, deflated and in base64, within a size."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from svdtrace.report.numbers import as_json

UNPACKED = 24_000_000
"""Bytes of JSON that a browser unpacks in a fraction of a second."""


class Packing:
    """A JSON list that grows until its packed form would be longer than it may be.

    Args:
        budget: characters of base64.
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._stream = zlib.compressobj(9)
        self._packed = bytearray()
        self._size = 0

    def add(self, value: Any) -> bool:
        """Append a value, unless it does not fit; whether it did.

        Args:
            value: what `json` can write.
        """
        text = (("," if self._size else "[") + as_json(value)).encode()
        stream = self._stream.copy()
        part = stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH)
        if _in_base64(len(self._packed) + len(part) + 16) > self._budget or self._size + len(text) > UNPACKED:
            return False
        self._stream, self._size = stream, self._size + len(text)
        self._packed += part
        return True

    def text(self) -> str:
        """The list, as base64 of its deflated JSON."""
        end = b"]" if self._size else b"[]"
        stream = self._stream.copy()
        return base64.b64encode(self._packed + stream.compress(end) + stream.flush()).decode()


def unpacked(text: str) -> Any:
    """What was packed.

    Args:
        text: from `Packing.text`.
    """
    return json.loads(zlib.decompress(base64.b64decode(text)))


def _in_base64(size: int) -> int:
    return 4 * -(-size // 3)
