"""What the commands' options and outputs share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from svdtrace.surroundings.bars import Advance, bar

Flat = tyro.conf.arg(name="")
Flag = tyro.conf.FlagCreatePairsOff
Folder = Annotated[Path, tyro.conf.arg(metavar="DIR")]
Source = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
Revision = Annotated[str | None, tyro.conf.arg(metavar="REVISION", help_behavior_hint="")]


@dataclass(frozen=True)
class Voice:
    """How much is said, and in what form."""

    quiet: Flag[bool] = False
    """No progress bar, no notes and no closing lines; errors are still told."""
    json: Flag[bool] = False
    """Print one JSON object, alone on standard output."""

    def note(self, where: object, notes: Sequence[str]) -> None:
        """Say on standard error, a line each, what was noticed and stops nothing."""
        if not self.quiet:
            for each in notes:
                print(f"note: {where}: {each}", file=sys.stderr)

    def show(self, content: dict[str, Any], lines: Sequence[str]) -> None:
        """The outcome on standard output: as JSON, as lines, or not at all."""
        if self.json:
            whole = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
            print(json.dumps(content, ensure_ascii=not whole, allow_nan=False, indent=1))
        elif not self.quiet:
            print("\n".join(lines))

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Advance | None]:
        """A bar on standard error; `None` with `--quiet` or where that is no terminal."""
        if self.quiet:
            yield None
            return
        with bar(title, total) as advance:
            yield advance


def aligned(columns: Sequence[str], rows: Sequence[Sequence[object]], left: int = 1) -> list[str]:
    """A table as lines of plain text, its first `left` columns to the left and the others to the right."""
    cells = [list(columns), *([str(each) for each in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(columns))]
    lines = []
    for row in cells:
        padded = [
            text.ljust(w) if n < left else text.rjust(w) for n, (text, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(padded).rstrip())
    return lines
