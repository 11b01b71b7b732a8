"""SQL over the tables of a trace or a sweep."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svdtrace.errors import QueryError, TraceFolderError
from svdtrace.surroundings.paths import path_of
from svdtrace.sweeping import parts

VIEWS = ("prompts", "firings", "edges", "rejected")


def ask(folder: str | Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Ask one question of a folder's tables, which DuckDB reads as it needs them.

    Args:
        folder: of a trace (`firings.parquet`) or a sweep (`firings/part-00000.parquet`, …).
        sql: over the views `prompts`, `firings`, `edges`, and of a sweep `rejected`.

    Returns:
        The answer's columns and rows.

    Raises:
        TraceFolderError: the folder holds no such tables.
        QueryError: DuckDB is not installed, or cannot answer.
    """
    try:
        import duckdb
    except ImportError:
        raise QueryError("svdtrace query needs DuckDB; install it with pip install 'svdtrace[query]'") from None
    folder = path_of(folder)
    with duckdb.connect() as database:
        try:
            found = [name for name in VIEWS if _view(database, folder, name)]
        except duckdb.Error as error:
            raise TraceFolderError(
                f"{folder}: its tables cannot be read ({_first_line(error)}); make them anew, or rename the folder"
            ) from None
        if "firings" not in found:
            raise TraceFolderError(f"{folder}: holds no tables of a trace or sweep; name a folder that one wrote")
        # The tables are there to be read: a question changes and reaches nothing else.
        # Held against what is asked for as well as against what that is found to mean.
        allowed = {str(folder.resolve()), _literal(folder.resolve())}
        database.execute(f"set allowed_directories = [{', '.join(map(_quoted, sorted(allowed)))}]")
        database.execute("set enable_external_access = false")
        database.execute("set lock_configuration = true")
        try:
            # An allowed folder may be written to as well, by anything but a question.
            kinds = [each.type for each in database.extract_statements(sql)]
            if any(kind not in _questions(duckdb) for kind in kinds) or len(kinds) != 1:
                raise QueryError(
                    f"the question cannot be answered (found {_named(kinds)}, expected one select); the views are "
                    f"{', '.join(found)}"
                )
            answer = database.execute(sql)
            columns = [each[0] for each in answer.description or ()]
            return columns, answer.fetchall() if columns else []
        except duckdb.Error as error:
            raise QueryError(
                f"the question cannot be answered ({_first_line(error)}); the views are {', '.join(found)}"
            ) from None


def _questions(duckdb: Any) -> tuple[Any, ...]:
    """The kinds of statements that only ask; pivot is one of those that DuckDB makes several of."""
    kinds = duckdb.StatementType
    return kinds.SELECT, kinds.MULTI


def _named(kinds: Sequence[Any]) -> str:
    return ", ".join(str(kind).rpartition(".")[2].lower() for kind in kinds) or "nothing"


def _view(database: Any, folder: Path, name: str) -> bool:
    """Make a table a view, if it is there."""
    single = folder / f"{name}.parquet"
    # Of a sweep that was killed a part may be there in one table alone; only whole ones are read.
    files = [single] if single.is_file() else [parts.path(folder, name, number) for number in parts.numbers(folder)]
    files = [file for file in files if file.is_file()]
    if files:
        listed = ", ".join(_quoted(_literal(file.resolve())) for file in files)
        # Without it a folder named `layer=3`, as sweeps of settings name theirs, would give the column layer.
        whole = "hive_partitioning = false"
        database.execute(f"create view {name} as select * from read_parquet([{listed}], {whole})")
    return bool(files)


def _literal(path: Path) -> str:
    """A path that stands for itself where patterns are read."""
    return re.sub(r"[\[*?]", r"[\g<0>]", str(path))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
