"""Reading a JSON file so that every failure names the file and the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_bytes(path: Path, error: type[Exception], missing: str) -> bytes:
    """A file's content.

    Args:
        path: the file.
        error: the class of what is raised.
        missing: what to do where there is no such file.

    Raises:
        error: the file is missing or unreadable.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise error(f"{path}: no such file; {missing}") from None
    except OSError as failure:
        raise error(f"{path}: cannot be read ({failure.strerror}); check the file and its permissions") from failure


def parse_json(data: bytes, where: str | Path, error: type[Exception]) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        error: not JSON, or no object; the message has file and line.
    """
    try:
        parsed = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as failure:
        reason = f"line {failure.lineno}: not JSON ({failure.msg})"
        raise error(f"{where} {reason}; correct it or fetch it again") from failure
    except (UnicodeDecodeError, RecursionError, ValueError) as failure:
        reason = str(failure).splitlines()[0]
        raise error(f"{where}: not JSON ({reason}); correct it or fetch it again") from failure
    if not isinstance(parsed, dict):
        raise error(f"{where}: expected a JSON object, found a {type(parsed).__name__}; correct it or fetch it again")
    return parsed
