"""Tables that fit the width there is: where columns would break, every row becomes a few lines of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

INDENT, APART = "  ", "   "


@dataclass(frozen=True)
class FittingTable:
    """A titled table; nothing in it is markup.

    Args:
        rows: cells as texts.
        left: columns that stand to the left; the first of them name a row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: Sequence[str] = ()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, or its rows in lines where a cell would break."""
        yield Text(self.title, style="bold")
        for headers in (self.columns, self._folded()):
            whole = self._table(headers)
            if Measurement.get(console, options.update(max_width=10_000), whole).maximum <= options.max_width:
                yield whole
                return
        yield Text()
        for row in self.rows:
            yield from self._lines(row, options.max_width)
        yield Text()

    def _folded(self) -> list[str]:
        """The columns' names over several lines, none wider than what its column needs anyhow."""
        cells = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [
            textwrap.fill(name, max(1, *map(len, (*name.split(), *its))), break_long_words=False)
            for name, its in zip(self.columns, cells, strict=True)
        ]

    def _table(self, headers: Sequence[str]) -> Table:
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
        for name, header in zip(self.columns, headers, strict=True):
            table.add_column(Text(header), justify="left" if name in self.left else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def _lines(self, row: Sequence[str], width: int) -> list[Text]:
        """What names the row, and below it the other columns with their names, as many to a line as have room."""
        naming = next((at for at, name in enumerate(self.columns) if name not in self.left), len(self.columns)) or 1
        lines = [Text(APART.join(cell for cell in row[:naming] if cell), style="bold", overflow="fold")]
        said = [
            f"{name} {cell}".strip() for name, cell in zip(self.columns[naming:], row[naming:], strict=True) if cell
        ]
        line = ""
        for each in said:
            longer = f"{line}{APART}{each}" if line else f"{INDENT}{each}"
            if line and len(longer) > width:
                lines.append(Text(line))
                longer = f"{INDENT}{each}"
            line = longer
        return [*lines, *([Text(line, overflow="fold")] if line else [])]
