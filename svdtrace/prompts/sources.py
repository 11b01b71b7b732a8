"""Where prompts come from: each source gives records, with the place that a message about one names.

In place of a record that cannot be read stands the `PromptError` that says why, so that others can go on; an empty line
counts as one.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svdtrace.errors import PromptError
from svdtrace.prompts.records import FIELDS, check_keys
from svdtrace.prompts.values import whole_number
from svdtrace.surroundings.paths import path_of

if TYPE_CHECKING:
    from gpt2jax.tokenizer import Tokenizer
    from svdtrace.prompts.prompt import Prompt

Placed = tuple[str, Any]
GENERATORS = {"ioi": "ioi:N[:SEED]", "ordinary": "ordinary:N[:SEED]", "text": "text:FILE:LENGTH"}
ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")
FORMS = "a .jsonl, .jsonl.gz or .parquet file, a folder of them, -, " + ", ".join(GENERATORS.values())


class EmptyLineError(PromptError):
    """A line without a record, before the last record of its file."""


def records(source: str, tokenizer: Tokenizer | None, seed: int, longest: int | None = None) -> Iterator[Placed]:
    """Records of a source with their places; generated sentences have at most `longest` tokens.

    Raises:
        PromptError: the source is none of `FORMS`, or cannot be read.
    """
    kind, colon, rest = source.partition(":")
    if colon and kind in GENERATORS:
        return _generated(source, kind, rest, tokenizer, seed, longest)
    if source == "-":
        return _standard_input()
    path = path_of(source)
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        near = get_close_matches(kind, GENERATORS, n=1) if colon else []
        hint = f"did you mean {GENERATORS[near[0]]}?" if near else f"give {FORMS}"
        raise PromptError(f"{source}: no such file; {hint}")
    if source.endswith(ENDINGS):
        return _file(path)
    raise PromptError(f"{source}: not a kind of file that holds prompts; give {FORMS}")


def _generated(
    source: str, kind: str, rest: str, tokenizer: Tokenizer | None, seed: int, longest: int | None
) -> Iterator[Placed]:
    from svdtrace.prompts import generators

    if kind == "text":
        file, _, length = rest.rpartition(":")
        if not file or whole_number(length) is None:
            raise PromptError(f"{source}: expected {GENERATORS[kind]}, such as text:book.txt:64")
        prompts = generators.text(file, int(length), tokenizer)
    else:
        numbers = rest.split(":")
        if len(numbers) > 2 or None in map(whole_number, numbers):
            raise PromptError(f"{source}: expected {GENERATORS[kind]} with whole numbers, such as {kind}:64")
        n, own_seed = int(numbers[0]), int(numbers[1]) if len(numbers) == 2 else seed
        prompts = generators.sentences(kind, n, tokenizer, own_seed, longest)
    return ((f"{source} prompt {number}", record_of(prompt)) for number, prompt in enumerate(prompts, 1))


def record_of(prompt: Prompt) -> dict[str, Any]:
    """A prompt as a file would hold it."""
    return {name: getattr(prompt, name) for name in FIELDS if name != "text"}


def _standard_input() -> Iterator[Placed]:
    name = "standard input"
    if sys.stdin is None or sys.stdin.closed:
        raise PromptError(f"{name}: is closed; pipe prompts into it, or give {FORMS}")
    lines = getattr(sys.stdin, "buffer", None) or (line.encode("utf-8", "surrogatepass") for line in sys.stdin)
    try:
        yield from _lines(lines, name)
    except OSError as error:
        raise PromptError(f"{name}: cannot be read ({error.strerror or error}); pipe prompts into it") from None


def _json_lines(path: Path) -> Iterator[Placed]:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            yield from _lines(file, str(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PromptError(f"{path}: damaged gzip file ({error}); write it anew") from None
    except OSError as error:
        raise PromptError(f"{path}: cannot be read ({error.strerror}); check the file and its permissions") from None


def _lines(file: Iterable[bytes], name: str) -> Iterator[Placed]:
    """The records of lines. Empty lines that end a file are no part of what it holds; any other takes a place."""
    empty: list[str] = []
    for number, line in enumerate(file, 1):
        place = f"{name} line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield from _passed(empty)
            yield place, PromptError(f"not valid UTF-8 at byte {error.start}; save the file as UTF-8")
            continue
        if not text.strip():
            empty.append(place)
            continue
        yield from _passed(empty)
        try:
            record = json.loads(text.rstrip())
        except json.JSONDecodeError as error:
            record = PromptError(f"not valid JSON at column {error.colno} ({error.msg})")
        except (RecursionError, ValueError) as error:
            record = PromptError(f"not usable JSON ({error})")
        yield place, record


def _passed(empty: list[str]) -> Iterator[Placed]:
    """The empty lines before a record, which are then forgotten."""
    yield from ((place, EmptyLineError("the line is empty; remove it")) for place in empty)
    empty.clear()


def _file(path: Path) -> Iterator[Placed]:
    return _parquet(path) if path.name.endswith(".parquet") else _json_lines(path)


def _folder(folder: Path) -> Iterator[Placed]:
    paths = files_of(folder)
    if not paths:
        raise PromptError(f"{folder}: a folder without {', '.join(ENDINGS)} files; give {FORMS}")
    return (placed for path in paths for placed in _file(path))


def files_of(folder: Path) -> list[Path]:
    """The files of a folder that hold prompts: those of a trace, or all by name.

    Names that begin with "." or "_" are left out, as Spark, pandas and datasets do: what systems put beside files.

    Raises:
        PromptError: the folder cannot be read.
    """
    traced = folder / "prompts.parquet"
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError as error:
        raise PromptError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
    if traced.name in names:
        return [traced]
    return [folder / name for name in names if name.endswith(ENDINGS) and not name.startswith((".", "_"))]


def _parquet(path: Path) -> Iterator[Placed]:
    import pyarrow
    from pyarrow import parquet

    try:
        # By its handle: the library cannot open names that are no Unicode.
        with path.open("rb") as handle, parquet.ParquetFile(handle) as file:
            names = [name for name in FIELDS if name in file.schema_arrow.names]
            if not {"text", "tokens"} & set(names):
                found = ", ".join(file.schema_arrow.names)
                raise PromptError(f'{path}: expected a column "text" or "tokens", found {found}; rename one')
            try:
                check_keys(file.schema_arrow.names)
            except PromptError as error:
                raise PromptError(f"{path}: {error}") from None
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=names):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PromptError(f"{path}: not a readable parquet file ({reason}); write it anew") from None
