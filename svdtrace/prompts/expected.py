"""How many prompts a source holds, where that can be told without reading them all."""

from __future__ import annotations

from pathlib import Path

from svdtrace.errors import PromptError
from svdtrace.prompts.sources import GENERATORS, files_of
from svdtrace.prompts.values import whole_number
from svdtrace.surroundings.paths import path_of


def expected(source: str) -> int | None:
    """The number of records of a source, for a progress bar; `None` where only reading would tell."""
    kind, colon, rest = source.partition(":")
    if colon and kind in GENERATORS:
        number = rest.split(":")[0]
        return whole_number(number) if kind != "text" else None
    path = path_of(source)
    try:
        if path.is_dir():
            counts = [_of_file(each) for each in files_of(path)]
            return sum(count or 0 for count in counts) if counts and None not in counts else None
        return _of_file(path)
    except (OSError, ValueError, PromptError):
        return None


def _of_file(path: Path) -> int | None:
    if path.name.endswith(".parquet"):
        from pyarrow import parquet

        with path.open("rb") as file:
            return parquet.ParquetFile(file).metadata.num_rows
    if not path.name.endswith(".jsonl"):
        return None
    last = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            last = number if line.strip() else last
    return last
