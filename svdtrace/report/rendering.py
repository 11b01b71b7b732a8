"""The page itself: template, style, scripts and data put into one file that loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from svdtrace.report.answers import Result
from svdtrace.report.data import BYTES, SECTIONS, page_data
from svdtrace.report.numbers import as_json
from svdtrace.report.offline import asset, policy, template
from svdtrace.report.words import words
from svdtrace.results.in_parts import InParts

LIBRARY = "vendor/cytoscape.min.js"
SCRIPTS = (
    "state.js",
    "dom.js",
    "data.js",
    "saving.js",
    "search.js",
    "sentence-layout.js",
    "sentence-ways.js",
    "subgraph.js",
    "layout.js",
    "routing.js",
    "circuit-style.js",
    "hover.js",
    "circuit-picture.js",
    "circuit-picks.js",
    "circuit.js",
    "details.js",
    "edges-table.js",
    "heads.js",
    "dimensions.js",
    "plot.js",
    "chance.js",
    "interventions.js",
    "characterisation.js",
    "faithfulness.js",
    "arcs.js",
    "prompts.js",
    "sentence-drawing.js",
    "sentence-hover.js",
    "card.js",
    "sentence.js",
    "main.js",
)
VALUED = {"relative": "attention beyond an even share"}
"""What a head's products sum to, by method; else the score."""
PARTS = ("chance", "stability", *(section for section, _ in SECTIONS.values()))


def render(trace: InParts, results: Sequence[Result] = (), limit: int = BYTES, folder: str | Path = "trace") -> str:
    """The page `report.html` of a trace; the same trace gives the same page.

    Args:
        trace: a trace, or a sweep's parts.
        results: of other commands, from `read_results`; each gets a section.
        limit: bytes of data; the page says what it leaves out.
        folder: where the trace is, for the commands that the page tells.

    Returns:
        HTML that opens offline.
    """
    data = page_data(trace, results, limit, str(folder))
    present = [name for name in PARTS if data.json.get(name) is not None]
    own = "\n".join(asset(f"page/{name}") for name in SCRIPTS)
    scripts = [asset(LIBRARY), f'\n(() => {{\n"use strict";\n{own}}})();\n']
    return template("page.html.j2").render(
        words=words(trace.manifest, data, results, str(folder)),
        policy=policy(scripts),
        style=Markup(asset("page/style.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(as_json(data.json)),
        has_connections=data.n_connections > 0,
        has_firings=data.totals.firings > 0,
        has_prompts=data.n_shown > 0,
        has_sentence=data.n_shown > 0 and data.n_connections > 0,
        one_prompt=data.prompts.count == 1,
        written=data.json["written"],
        valued=VALUED.get(data.json["method"], "score"),
        has={name: name in present for name in PARTS},
        present=present,
    )
