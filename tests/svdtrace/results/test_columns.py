"""Columns: what the file says of them and what the page of formats says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from svdtrace.results.columns import DESCRIPTION, roles_at
from svdtrace.tracing import tables
from svdtrace.tracing.close_up_tables import CLOSE_UPS, LIKELIEST

FORMATS = Path(__file__).resolve().parents[3] / "docs" / "formats.md"
FURTHER = [tables.STABILITY, *tables.P_VALUES.values(), tables.Q_VALUE]


def listed(field: pa.Field) -> str:
    kind = str(field.type).replace("item: ", "")
    return f"| `{field.name}` | {kind} | {field.metadata[DESCRIPTION].decode().replace('|', chr(92) + '|')} |"


def test_formats_lists_every_column_as_the_files_do() -> None:
    """Catches a column added, dropped or described otherwise on one of the two sides."""
    page = FORMATS.read_text(encoding="utf-8")
    for name, fields in {
        "prompts": tables.PROMPTS,
        "firings": tables.firings_schema(relative=True),
        "edges": [*tables.edges_schema(relative=True), *FURTHER],
        "close_ups": CLOSE_UPS,
        "likeliest": LIKELIEST,
    }.items():
        section = page.partition(f"### {name}\n")[2].partition("\n#")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert rows == [listed(field) for field in fields]


def test_the_last_listed_role_wins() -> None:
    """Catches the first role kept, and a position beyond every role given the last one's."""
    roles = [{"A": 2, "B": 2, "C": 0}, {}]
    prompt, token = np.asarray([0, 0, 0, 0, 1]), np.asarray([0, 1, 2, 7, 0])
    assert roles_at(roles, prompt, token).to_pylist() == ["C", None, "B", None, None]
    assert roles_at([{}], np.zeros(1, int), np.zeros(1, int)).to_pylist() == [None]
    assert roles_at([], np.zeros(0, int), np.zeros(0, int)).to_pylist() == []
