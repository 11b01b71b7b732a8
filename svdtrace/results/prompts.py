"""A trace's prompts, read back from its table."""

from __future__ import annotations

import pyarrow as pa

from svdtrace.prompts.prompt import Prompt


def prompts_of(table: pa.Table) -> list[Prompt]:
    """The prompts of `prompts.parquet`, in its order."""
    return [
        Prompt(
            id=row["id"],
            tokens=tuple(row["tokens"]),
            strings=tuple(row["strings"]),
            roles=dict(row["roles"]),
            answer=row["answer"],
            distractor=row["distractor"],
            text=row.get("text"),
        )
        for row in table.to_pylist()
    ]
