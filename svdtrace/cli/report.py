"""`svdtrace report`: the page of a trace, made anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from svdtrace.cli.options import Flat, Folder, Voice

PAGE = "report.html"


@dataclass(frozen=True)
class Options:
    """Write the page of a trace; it opens in a browser without a network.

    Into a folder named report: `svdtrace report trace`

    Into a file: `svdtrace report trace --out circuit.html`

    With what other commands found: `svdtrace report trace --with characterise --with intervene --with circuit`
    """

    folder: tyro.conf.Positional[Folder]
    """Folder of a trace or a sweep."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE|DIR")] = Path("report")
    """File that ends in .html, or a folder: new, empty, or an earlier result, which is replaced."""
    others: Annotated[
        tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(name="with", metavar="DIR", help_behavior_hint="")
    ] = ()
    """Folder that svdtrace characterise, intervene or circuit wrote, shown beside the trace; may be given several
    times."""
    voice: Annotated[Voice, Flat] = field(default_factory=Voice)


def run(options: Options) -> int:
    """Render and write; print where."""
    from svdtrace.cli.reading import reading
    from svdtrace.cli.terminal import console, print_json, tell_unfinished
    from svdtrace.folders.reading import opened
    from svdtrace.output.writing import names_file, replaced_file, replaced_folder, write_manifest
    from svdtrace.report import PASSES, read_results, render
    from svdtrace.results.versions import versions

    trace = opened(options.folder)
    tell_unfinished(trace.manifest, options.voice)
    results = read_results(options.others, trace.manifest["model"].get("fingerprint"))
    with reading(options.voice) as watch:
        page = render(watch(trace, options.folder, PASSES), results, folder=options.folder)
    if names_file(options.out, (".html",), options.folder):
        written = options.out
        with replaced_file(written) as staging:
            staging.write_text(page, encoding="utf-8")
    else:
        written = options.out / PAGE
        with replaced_folder(options.out) as folder:
            (folder / PAGE).write_text(page, encoding="utf-8")
            made_of = {"trace": str(options.folder), "with": [str(each) for each in options.others]}
            write_manifest(folder, {**versions(), "command": "report", **made_of})
    if options.voice.json:
        print_json({"command": "report", "files": [str(written)]})
    elif not options.voice.quiet:
        console().say(f"Written to {written}; open it in a browser")
    return 0
