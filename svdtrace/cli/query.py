"""`svdtrace query`: SQL over the tables of a trace or a sweep, by DuckDB."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from svdtrace.cli.options import Flat, Folder, Voice


@dataclass(frozen=True)
class Options:
    """Ask SQL of the tables of a trace or sweep; they are the views prompts, firings, edges (and rejected).

    Needs DuckDB: `pip install 'svdtrace[query]'`

    Firings per head: `svdtrace query DIR "select layer, head, count(*) as firings from firings group by all"`
    """

    folder: tyro.conf.Positional[Folder]
    """Folder of a trace or a sweep."""
    sql: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SQL")]]
    """One question."""
    rows: int = 100
    """Rows to show at most; --json gives all."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Ask and print."""
    from svdtrace.cli.terminal import console, print_json, table
    from svdtrace.folders.querying import ask

    columns, rows = ask(options.folder, options.sql)
    if options.voice.json:
        print_json({"columns": columns, "rows": [[_plain(value) for value in row] for row in rows]})
    elif not options.voice.quiet:
        shown = rows[: options.rows]
        title = f"{len(rows):,} rows" + (f", the first {len(shown):,}" if len(shown) < len(rows) else "")
        console().print(table(title, columns, [[_shown(value) for value in row] for row in shown]))
    return 0


def _shown(value: Any) -> str:
    """A value as a table has it: numbers to six digits, or to the first decimal."""
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.1f}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_shown(each) for each in value)}]"
    return "" if value is None else str(value)


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value != value:
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
