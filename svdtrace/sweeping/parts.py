"""A part of a sweep: its three tables, written aside and renamed, so that a part is whole or absent."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from svdtrace.errors import OutputError, TraceFolderError
from svdtrace.results.columns import described
from svdtrace.results.emptiness import LAYER_0
from svdtrace.sweeping.windows import Rejected, Window
from svdtrace.tracing import tables
from svdtrace.tracing.manifest import inexact
from svdtrace.tracing.near_ties import NAMED, renumbered

if TYPE_CHECKING:
    from svdtrace.tracing.trace import Trace

# The prompts' table is renamed last: where it is, the part is whole.
SCHEMAS: dict[str, pa.Schema] = {"edges": tables.EDGES, "firings": tables.FIRINGS, "prompts": tables.PROMPTS}
REJECTED = described(
    ("prompt", pa.int32(), "0-based place of the record in the input"),
    ("where", pa.string(), "file and line, or what else tells where the record stands"),
    ("reason", pa.string(), "what is wrong with it"),
)
REJECTED_FILE = "rejected.parquet"
UNFINISHED = ".tmp"
_KEY = b"svdtrace"
_HEAD = re.compile(r"\d{1,9}\.\d{1,9}")
_PART = re.compile(r"part-(\d{5,9})\.parquet")


@dataclass(frozen=True)
class Tally:
    """What is counted of a part, or of several: integers that add up."""

    prompts: int = 0
    rejected: int = 0
    firings: int = 0
    edges: int = 0
    near_tie_firings: int = 0
    near_tie_edges: int = 0
    near_tie_pairs: int = 0
    near_tie_places: int = 0
    paths_saturated: int = 0
    of_layer_0: int = 0
    not_finite: int = 0
    inexact: int = 0

    def __add__(self, other: Tally) -> Tally:
        """The counts of both."""
        return Tally(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


@dataclass(frozen=True)
class Part:
    """A part that is written: the digest of its window, what is counted of it, the firings of each head `9.6`.

    `rounding`: what bfloat16 weights change, in the one part that was traced with the float32 weights too.
    `near_ties`, `not_finite`: the names of the first of them, see the modules `near_ties` and `finite` of
    `svdtrace.tracing`.
    """

    digest: str
    tally: Tally
    firings_per_head: dict[str, int]
    rounding: dict[str, Any] | None = None
    near_ties: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()


def path(folder: Path, name: str, number: int) -> Path:
    """Where a part's table stands."""
    return folder / name / f"part-{number:05d}.parquet"


def numbers(folder: Path) -> list[int]:
    """The numbers of the whole parts, in order."""
    names = (_PART.fullmatch(each.name) for each in (folder / "prompts").glob("part-*.parquet"))
    return sorted(int(name[1]) for name in names if name)


def tables_of(trace: Trace, places: Sequence[int]) -> dict[str, pa.Table]:
    """A window's tables, with the prompts' places in the whole input."""
    return {name: tables.at_places(getattr(trace, name), places) for name in SCHEMAS}


def empty_tables(*, relative: bool) -> dict[str, pa.Table]:
    """The tables of a window without a single prompt; `relative` has columns of its own."""
    own = {"edges": tables.edges_schema(relative=relative), "firings": tables.firings_schema(relative=relative)}
    return {name: schema.empty_table() for name, schema in (SCHEMAS | own).items()}


def write(folder: Path, number: int, content: dict[str, pa.Table], part: Part) -> None:
    """Write a part.

    Raises:
        OutputError: it cannot be written; what was written before stays good.
    """
    said = json.dumps(asdict(part)).encode()
    try:
        for name in SCHEMAS:
            target = path(folder, name, number)
            target.parent.mkdir(exist_ok=True)
            aside = unfinished(target)
            table = content[name].replace_schema_metadata({_KEY: said} if name == "prompts" else None)
            pq.write_table(table, aside, compression="zstd")
            _to_disk(aside)
        for name in SCHEMAS:
            target = path(folder, name, number)
            _aside(target).replace(target)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"{path(folder, 'prompts', number)}: not written ({reason}); what was written before is whole: make room "
            "and give the same command again"
        ) from None


def read(folder: Path, number: int) -> Part:
    """What a whole part says of itself.

    Raises:
        TraceFolderError: it is damaged, or not one that a sweep wrote.
    """
    file = path(folder, "prompts", number)
    try:
        said = json.loads((pq.read_schema(file).metadata or {})[_KEY])
        tally, per_head = Tally(**said["tally"]), dict(said["firings_per_head"])
        if not all(isinstance(each, int) for each in (*asdict(tally).values(), *per_head.values())):
            raise ValueError("counts that are no whole numbers")
        if not all(_HEAD.fullmatch(name) for name in per_head):
            raise ValueError("firings of heads that are none")
        return Part(
            digest=str(said["digest"]),
            tally=tally,
            firings_per_head=per_head,
            rounding=said.get("rounding"),
            near_ties=tuple(said.get("near_ties", ())),
            not_finite=tuple(said.get("not_finite", ())),
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise TraceFolderError(f"{file}: no part of a sweep ({error}); remove it and give the command again") from None


def counted(folder: Path) -> Part:
    """All whole parts counted together.

    Raises:
        TraceFolderError: see `read`.
    """
    return in_all([read(folder, number) for number in numbers(folder)])


def in_all(each: Sequence[Part]) -> Part:
    """Several parts counted as one, without a digest."""
    return Part(
        digest="",
        tally=sum((part.tally for part in each), Tally()),
        firings_per_head=summed([part.firings_per_head for part in each]),
        rounding=next((part.rounding for part in each if part.rounding is not None), None),
        near_ties=tuple(chain.from_iterable(part.near_ties for part in each))[:NAMED],
        not_finite=tuple(chain.from_iterable(part.not_finite for part in each))[:NAMED],
    )


def near_ties(part: Part) -> dict[str, Any]:
    """What a manifest says of decisions within rounding, as `svdtrace.tracing.near_ties` says it of a trace."""
    tally = part.tally
    return {
        "pairs": tally.near_tie_pairs,
        "firings": tally.near_tie_firings,
        "edges": tally.near_tie_edges,
        "places": tally.near_tie_places,
        "named": list(part.near_ties),
    }


def not_finite(part: Part) -> dict[str, Any]:
    """What a manifest says of prompts whose activations are not finite."""
    return {"prompts": part.tally.not_finite, "named": list(part.not_finite)}


class RejectedWriter:
    """`rejected.parquet`, row by row, under its final name when the sweep is complete."""

    def __init__(self, folder: Path) -> None:
        self._target = folder / REJECTED_FILE
        self._writer = pq.ParquetWriter(unfinished(self._target), REJECTED, compression="zstd")

    def add(self, rejected: Sequence[Rejected]) -> None:
        """Write some more."""
        if rejected:
            self._writer.write_table(pa.Table.from_pylist([asdict(each) for each in rejected], schema=REJECTED))

    def close(self, *, complete: bool) -> None:
        """Give the file its name, or leave none."""
        self._writer.close()
        if complete:
            _aside(self._target).replace(self._target)
        else:
            _aside(self._target).unlink(missing_ok=True)


def table(folder: Path, name: str, number: int, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's table, or some of its columns, strings of which are then encoded.

    Raises:
        TraceFolderError: it cannot be read.
    """
    file = path(folder, name, number)
    try:
        if columns is None:
            return pq.ParquetFile(file).read().replace_schema_metadata(None)
        whole = pq.read_schema(file)
        wanted = [each for each in columns if each in whole.names]
        strings = [each for each in wanted if whole.field(each).type == pa.string()]
        return pq.ParquetFile(file, read_dictionary=strings).read(wanted).replace_schema_metadata(None)
    except (OSError, pa.ArrowException) as error:
        raise TraceFolderError(f"{file}: cannot be read ({error}); give the sweep's command again") from None


def summed(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Counts by name, added up, in the order of layer and head."""
    total: dict[str, int] = {}
    for part in parts:
        for name, many in part.items():
            total[name] = total.get(name, 0) + many
    return dict(sorted(total.items(), key=lambda item: [int(each) for each in item[0].split(".")]))


def part_of(trace: Trace, window: Window, rounding: dict[str, Any] | None = None) -> Part:
    """What is to be remembered of a window's trace."""
    manifest: dict[str, Any] = trace.manifest
    ties = manifest["near_ties"]
    tally = Tally(
        prompts=trace.prompts.num_rows,
        rejected=len(window.rejected),
        firings=trace.firings.num_rows,
        edges=trace.edges.num_rows,
        near_tie_firings=ties["firings"],
        near_tie_edges=ties["edges"],
        near_tie_pairs=ties["pairs"],
        near_tie_places=ties["places"],
        paths_saturated=manifest["paths_saturated"],
        of_layer_0=manifest["counts"][LAYER_0],
        not_finite=manifest["not_finite"]["prompts"],
        inexact=inexact(trace.firings),
    )
    named = [tuple(renumbered(manifest[each]["named"], window.places)) for each in ("near_ties", "not_finite")]
    return Part(window.digest, tally, manifest["counts"]["firings_per_head"], rounding, *named)


def unfinished(target: Path) -> Path:
    """Where a file is written before it has its name: nothing is there, and no link to be written through."""
    aside = _aside(target)
    aside.unlink(missing_ok=True)
    return aside


def _aside(target: Path) -> Path:
    return target.with_name(target.name + UNFINISHED)


def _to_disk(file: Path) -> None:
    """A rename must not overtake the content, should the machine stop."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
