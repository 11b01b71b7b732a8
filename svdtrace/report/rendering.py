"""The page itself: template, style, scripts and data put into one file that loads nothing.

Two things keep what a trace says from becoming markup: jinja2 escapes every text, and the data is JSON whose `<`, `>`
and `&` are escaped, which the scripts put into text nodes alone. The policy in the page's head is a third: it forbids
every script but ours, known by their hashes, and every request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from svdtrace.report.answers import Result
from svdtrace.report.data import BYTES, SECTIONS, page_data
from svdtrace.report.numbers import as_json
from svdtrace.report.words import words
from svdtrace.results.in_parts import InParts

LIBRARY = "vendor/cytoscape.min.js"
SCRIPTS = (
    "state.js",
    "dom.js",
    "data.js",
    "layout.js",
    "routing.js",
    "circuit-style.js",
    "hover.js",
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
    "main.js",
)
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
    data = page_data(trace, results, limit)
    present = [name for name in PARTS if data.json.get(name) is not None]
    own = "\n".join(_asset(f"page/{name}") for name in SCRIPTS)
    scripts = [_asset(LIBRARY), f'\n(() => {{\n"use strict";\n{own}}})();\n']
    return _template().render(
        words=words(trace.manifest, data, results, str(folder)),
        policy=_policy(scripts),
        style=Markup(_asset("page/style.css")),
        scripts=[Markup(script) for script in scripts],
        data=Markup(as_json(data.json)),
        has_connections=data.n_connections > 0,
        has_firings=data.totals.firings > 0,
        has_prompts=data.n_shown > 0,
        has={name: name in present for name in PARTS},
        present=present,
    )


def _policy(scripts: list[str]) -> str:
    """A content security policy: these scripts, the style that is in the page, and nothing from anywhere."""
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


@cache
def _asset(name: str) -> str:
    return resources.files("svdtrace.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: _asset(f"page/{name}")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("page.html.j2")
