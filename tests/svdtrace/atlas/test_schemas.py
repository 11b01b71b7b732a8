"""Columns of an atlas: what the files say of them and what the page of formats says."""

from __future__ import annotations

from pathlib import Path

from svdtrace.atlas.schemas import SCHEMAS
from svdtrace.results.columns import meaning

FORMATS = Path(__file__).resolve().parents[3] / "docs" / "formats.md"


def test_formats_lists_every_column_as_the_files_do():
    """Catches a column added, dropped or described otherwise on one of the two sides."""
    page = FORMATS.read_text(encoding="utf-8")
    for name, schema in SCHEMAS.items():
        section = page.partition(f"### atlas: {name}\n")[2].partition("\n#")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        kinds = [str(field.type).replace("item: ", "") for field in schema]
        meanings = [meaning(field).replace("|", r"\|") for field in schema]
        fields = zip(schema.names, kinds, meanings, strict=True)
        assert rows == [f"| `{field}` | {kind} | {what} |" for field, kind, what in fields]
