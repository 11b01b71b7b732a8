"""Results that are damaged or malicious, places that cannot be written to, questions that reach too far."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made_up_trace import made_up_trace

import svdtrace
from hostile.refusals import Case, Files, changed
from svdtrace.output.locks import held
from svdtrace.output.staging import BUSY

MANIFEST = "trace/manifest.json"
PRECIOUS: Files = {"thesis/thesis.tex": "precious"}
MARK = {"version": "0", "command": "trace"}


@cache
def made_up() -> dict[str, bytes]:
    """A trace's tables and manifest, under the name of a folder."""
    trace = made_up_trace()
    files = {f"trace/{name}.parquet": parquet(getattr(trace, name)) for name in ("prompts", "firings", "edges")}
    return files | {MANIFEST: json.dumps(trace.manifest).encode()}


def parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def tables(name: str, change: Callable[[pa.Table], pa.Table]) -> Files:
    """The trace with one of its tables changed."""
    path = f"trace/{name}.parquet"
    return made_up() | {path: parquet(change(pq.read_table(io.BytesIO(made_up()[path]))))}


def recast(name: str, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        nothing = pa.nulls(table.num_rows, kind)
        return table.set_column(table.schema.get_field_index(name), name, nothing)

    return change


def of_trace(name: str, said: str, files: Files, *also: str, before: Callable[[], object] | None = None) -> Case:
    """A trace that cannot be read, by `graph` and in Python."""
    read = lambda: svdtrace.read("trace")  # noqa: E731
    return Case(name, ("graph", "trace"), said, files, made_up(), before=before, python=read, also=also)


def of_command(name: str, said: str, *arguments: str, files: Files | None = None, **more: Any) -> Case:
    return Case(name, arguments, said, files or {}, made_up(), **more)


def of_out(name: str, out: str, said: str, files: Files | None = None, **more: Any) -> Case:
    """A place that `decompose` cannot write to."""
    return Case(name, ("decompose", "--model", "model", "--out", out), said, files or {}, **more)


def asked(name: str, sql: str, said: str = "the question cannot be answered (", *also: str) -> Case:
    """SQL that must not reach beyond the tables."""
    return of_command(name, said, "query", "trace", sql, also=also)


def swept(name: str, said: str, files: Files, *arguments: str) -> Case:
    manifest = json.loads(made_up()[MANIFEST]) | {"command": "sweep", "sweep": {"complete": True}, "files": []}
    return Case(name, arguments or ("graph", "sweep"), said, {"sweep/manifest.json": manifest, **files})


def part(**said: Any) -> bytes:
    """The prompts of a part, with what it says of itself."""
    table = pq.read_table(io.BytesIO(made_up()["trace/prompts.parquet"]))
    return parquet(table.replace_schema_metadata({"svdtrace": json.dumps(said)} if said else None))


def link(place: str, to: str) -> Callable[[], None]:
    return lambda: Path(place).symlink_to(to)


HELD = ExitStack()
"""Locks that cases take, closed by the test."""


def _hold_lock() -> None:
    Path("out").mkdir()
    Path("out/manifest.json").write_text(json.dumps(MARK))
    HELD.enter_context(held(Path("out") / BUSY))


DAMAGED = [
    of_trace("no manifest", "trace: holds no trace (manifest.json: No such file", {MANIFEST: None}),
    of_trace("a manifest that is no JSON", "trace: holds no trace (Expecting", {MANIFEST: "{"}),
    of_trace("a manifest that is a list", f"{MANIFEST}: lacks config, counts, model", {MANIFEST: "[]"}),
    of_trace("a manifest that is deep", "trace: holds no trace (", {MANIFEST: "[" * 100_000}),
    of_trace("a manifest that is not UTF-8", "trace: holds no trace (", {MANIFEST: b"\xff\xfe"}),
    of_trace("a manifest of another command", f"{MANIFEST}: lacks ", {MANIFEST: MARK}),
    *(
        of_trace(
            f"a manifest whose {name} is {json.dumps(value)}",
            f"{MANIFEST}: {name} is no object",
            {MANIFEST: changed(**{name: value})},
        )
        for name in ("config", "model", "prompts", "counts")
        for value in (None, [])
    ),
    of_trace("no edges' file", "trace/edges.parquet: cannot be read (", {"trace/edges.parquet": None}),
    of_trace("an empty table", "trace/edges.parquet: cannot be read (", {"trace/edges.parquet": b""}),
    of_trace(
        "a table cut short", "trace/edges.parquet: cannot be read (", {"trace/edges.parquet": lambda held: held[:-20]}
    ),
    of_trace(
        "a table of noise",
        "trace/edges.parquet: cannot be read (",
        {"trace/edges.parquet": lambda held: held[:8] + b"\xff" * (len(held) - 16) + held[-8:]},
    ),
    of_trace(
        "a table without its columns",
        "trace/edges.parquet: lacks the columns ",
        tables("edges", lambda table: table.drop_columns(["weight"])),
        "weight",
    ),
    of_trace(
        "a column of another type",
        "trace/edges.parquet: has columns of another type (",
        tables("edges", recast("weight", pa.list_(pa.string()))),
    ),
    of_trace("roles of another type", "trace/", tables("prompts", recast("roles", pa.int32()))),
    of_trace(
        "a folder as table",
        "trace/edges.parquet: cannot be read (",
        {"trace/edges.parquet": None},
        before=lambda: Path("trace/edges.parquet").mkdir(),
    ),
    of_trace(
        "a table in a link to itself",
        "trace/edges.parquet: cannot be read (",
        {"trace/edges.parquet": None},
        before=link("trace/edges.parquet", "edges.parquet"),
    ),
    of_command("no such trace", "gone: holds no trace (", "graph", "gone"),
    of_command("a file as trace", f"{MANIFEST}: holds no trace (", "graph", MANIFEST),
    of_command("a trace with a null character", "'a\\x00b': holds a null character", "graph", "a\0b"),
    of_command("a trace of nobody's", "~nobody-here/x: there is no home folder", "graph", "~nobody-here/x"),
    of_command("a page of no trace", "thesis: holds no trace (", "report", "thesis", files=PRECIOUS),
    of_command(
        "a page with no result", "thesis: holds no result (", "report", "trace", "--with", "thesis", files=PRECIOUS
    ),
    of_command(
        "a page with a deep result",
        "thesis: holds no result (",
        "report",
        "trace",
        "--with",
        "thesis",
        files={"thesis/manifest.json": "[" * 100_000},
    ),
    of_command(
        "a page with a trace as result", "trace/manifest.json: its command is ", "report", "trace", "--with", "trace"
    ),
    of_command(
        "a prompt that is not there", "--prompt 99: the trace has no such prompt", "graph", "trace", "--prompt", "99"
    ),
    of_command(
        "a prompt beyond any",
        f"--prompt {10**30}: the trace has no such prompt",
        "graph",
        "trace",
        "--prompt",
        str(10**30),
    ),
    of_command(
        "a prompt below nought", "--prompt -1: the trace has no such prompt", "graph", "trace", "--prompt", "-1"
    ),
    of_command(
        "an attribution graph of all prompts",
        "an attribution graph is that of one prompt",
        "graph",
        "trace",
        "--out",
        "x.attribution.json",
    ),
    of_command(
        "a graph of no format",
        "x.gexf: a file that ends in .gexf cannot be written",
        "graph",
        "trace",
        "--out",
        "x.gexf",
    ),
    of_command("no nodes", "--nodes-max is 0; give 1 or more", "graph", "trace", "--nodes-max", "0"),
    of_command(
        "edges of another model",
        "trace: is a trace of another model",
        "intervene",
        "--from",
        "trace",
        "--model",
        "model",
    ),
    of_command(
        "a circuit of another model",
        "the trace is of another model (its fingerprint is 9f2c4e1a77b0",
        "circuit",
        "trace",
        "--model",
        "model",
    ),
    swept(
        "a part that is none",
        "sweep/prompts/part-00000.parquet: no part of a sweep (",
        {"sweep/prompts/part-00000.parquet": "PAR1"},
    ),
    swept(
        "a part without its mark",
        "sweep/prompts/part-00000.parquet: no part of a sweep (",
        {"sweep/prompts/part-00000.parquet": part()},
    ),
    swept(
        "a part of a wrong tally",
        "sweep/prompts/part-00000.parquet: no part of a sweep (",
        {"sweep/prompts/part-00000.parquet": part(digest="", tally=[], firings_per_head={})},
    ),
    swept(
        "a part of words for counts",
        "sweep/prompts/part-00000.parquet: no part of a sweep (",
        {"sweep/prompts/part-00000.parquet": part(digest="", tally={"prompts": "many"}, firings_per_head={})},
    ),
    swept(
        "a part of heads that are none",
        "sweep/prompts/part-00000.parquet: no part of a sweep (",
        {"sweep/prompts/part-00000.parquet": part(digest="", tally={}, firings_per_head={"x": 1})},
    ),
]
OUTS = [
    of_out("a folder of others", "thesis", "thesis: holds files that are no result of svdtrace", PRECIOUS),
    of_out("a file", "thesis/thesis.tex", "thesis/thesis.tex: is a file, not a folder; name another", PRECIOUS),
    of_out("below a file", "thesis/thesis.tex/out", "thesis/thesis.tex/out: cannot be written to (", PRECIOUS),
    of_out("a place that is not for writing", "/proc/out", "/proc/out: cannot be written to ("),
    of_out("a device", "/dev/null", "/dev/null: is a file, not a folder"),
    of_out(
        "a link to a folder of others",
        "link",
        "link: holds files that are no result of svdtrace",
        PRECIOUS,
        before=link("link", "thesis"),
    ),
    of_out(
        "a link to a file", "link", "link: is a file, not a folder", PRECIOUS, before=link("link", "thesis/thesis.tex")
    ),
    of_out("a link to itself", "loop", "loop: ", before=link("loop", "loop")),
    of_out("a name too long", "x" * 300, "xxx", also=("too long for a file or folder",)),
    of_out("an empty name", "", "--out is empty; give a value, or leave it out"),
    of_command("an empty trace", "what follows graph is empty; give a value", "graph", ""),
    of_out("a null character", "a\0b", "'a\\x00b': holds a null character"),
    of_out("a home of nobody", "~nobody-here/x", "~nobody-here/x: there is no home folder ~nobody-here"),
    of_out(
        "over a manifest that is a list",
        "thesis",
        "thesis: holds files that are no result",
        {"thesis/manifest.json": "[]"},
    ),
    of_out(
        "over a manifest that is deep",
        "thesis",
        "thesis: holds files that are no result",
        {"thesis/manifest.json": "[" * 100_000},
    ),
    of_out(
        "a manifest of another program",
        "thesis",
        "thesis: holds files that are no result",
        {"thesis/manifest.json": '{"version": 1}'},
    ),
    of_out("another run at work", "out", "out: another run is writing there; wait for it", before=_hold_lock),
    of_command(
        "over the trace that is read", "trace: holds the trace that is read", "graph", "trace", "--out", "trace"
    ),
    of_command("around the trace that is read", ".: holds the trace that is read", "graph", "trace", "--out", "."),
    of_command("a page over the trace", "trace: holds the trace that is read", "report", "trace", "--out", "trace"),
    of_command("a graph below a file", f"{MANIFEST}/x.json: ", "graph", "trace", "--out", f"{MANIFEST}/x.json"),
    of_command(
        "a graph in place of nothing to write",
        "/proc/x.json: cannot be written",
        "graph",
        "trace",
        "--out",
        "/proc/x.json",
    ),
    of_command(
        "a page in place of nothing to write",
        "/proc/x.html: cannot be written",
        "report",
        "trace",
        "--out",
        "/proc/x.html",
    ),
]
QUESTIONS = [
    asked("SQL that is none", "selec 1"),
    asked(
        "a table that is not there",
        "select * from secrets",
        "the question cannot be answered (",
        "the views are prompts, firings, edges",
    ),
    asked("a file outside", "select * from read_csv('/etc/passwd')"),
    asked("a file outside as text", "select * from read_text('/etc/passwd')"),
    asked("a file beside", "select * from read_text('model/config.json')"),
    asked("a file above", "select * from read_text('trace/../model/config.json')"),
    asked(
        "a copy to a file",
        "copy edges to 'stolen.csv'",
        "the question cannot be answered (found copy, expected one select)",
    ),
    asked(
        "a copy over the trace",
        "copy edges to 'trace/edges.parquet'",
        "the question cannot be answered (found copy, expected one select)",
    ),
    asked(
        "an export", "export database 'stolen'", "the question cannot be answered (found export, expected one select)"
    ),
    asked(
        "a database beside", "attach 'stolen.db'", "the question cannot be answered (found attach, expected one select)"
    ),
    asked("an extension", "install httpfs", "the question cannot be answered (found load, expected one select)"),
    asked(
        "a setting back",
        "set enable_external_access = true",
        "the question cannot be answered (found set, expected one select)",
    ),
    asked(
        "another folder allowed",
        "set allowed_directories = ['/']",
        "the question cannot be answered (found set, expected one select)",
    ),
    asked(
        "a copy within an explanation",
        "explain analyze copy edges to 'stolen.csv'",
        "the question cannot be answered (found explain, expected one select)",
    ),
    asked(
        "two questions, the second to a file",
        "select 1; copy edges to 'stolen.csv'",
        "the question cannot be answered (found select, copy, expected one select)",
    ),
    asked("an environment variable", "select getenv('HOME')"),
    asked("nothing", "", "what follows trace is empty; give a value"),
    asked(
        "nothing but spaces",
        " ; ",
        "the question cannot be answered (found nothing, expected one select); the views are",
    ),
    of_command(
        "a question to no trace",
        "thesis: holds no tables of a trace or sweep",
        "query",
        "thesis",
        "select 1",
        files=PRECIOUS,
    ),
    of_command(
        "a question to noise",
        "trace: its tables cannot be read (",
        "query",
        "trace",
        "select 1",
        files={"trace/edges.parquet": "PAR1"},
    ),
    of_command(
        "a question to a folder named as SQL",
        "'; select 1; --: holds no tables",
        "query",
        "'; select 1; --",
        "select 1",
    ),
]
CASES = [*DAMAGED, *OUTS, *QUESTIONS]
