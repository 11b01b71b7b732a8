"""A folder that appears complete or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpt2jax.errors import OutputError


def check_new(folder: str | Path) -> Path:
    """The path of a folder that may be written: one that is not there, or is empty.

    Raises:
        OutputError: something is there.
    """
    folder = Path(folder).expanduser()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists and is not an empty folder; give a new one")
    return folder


@contextmanager
def new_folder(folder: str | Path) -> Iterator[Path]:
    """An empty folder to write into; it takes the name `folder` when the block ends without an error.

    Args:
        folder: a new or empty folder.

    Raises:
        OutputError: the folder is not empty or cannot be written.
    """
    folder = check_new(folder)
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        yield aside
        aside.replace(folder)
    except OSError as failure:
        raise OutputError(f"{folder}: cannot be written ({failure.strerror}); give another folder") from failure
    finally:
        shutil.rmtree(aside, ignore_errors=True)
