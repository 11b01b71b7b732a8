"""How many prompts a source holds, where that can be told without reading them all."""

from __future__ import annotations

from svdtrace.prompts.sources import GENERATORS
from svdtrace.surroundings.paths import path_of


def expected(source: str) -> int | None:
    """The number of records of a source, for a progress bar; `None` where only reading would tell."""
    kind, colon, rest = source.partition(":")
    if colon and kind in GENERATORS:
        number = rest.split(":")[0]
        return int(number) if kind != "text" and number.isdecimal() else None
    path = path_of(source)
    if path.is_dir():
        counts = [
            expected(str(each.absolute())) for each in path.iterdir() if each.suffix in (".parquet", ".jsonl", ".gz")
        ]
        return sum(count or 0 for count in counts) if counts and None not in counts else None
    try:
        if source.endswith(".parquet"):
            from pyarrow import parquet

            return parquet.read_metadata(path).num_rows
        if source.endswith(".jsonl"):
            with path.open("rb") as file:
                return sum(bool(line.strip()) for line in file)
    except (OSError, ValueError):
        return None
    return None
