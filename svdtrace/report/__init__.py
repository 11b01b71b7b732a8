"""`report.html`: a trace as one page that opens offline.

`token_roles`, `totals`, `connections`, `heads`, `vectors` and `medians` count the tables together, part by part;
`prompt_views` and `data` make of them what the page draws, within a size; `evidence` and `results` add chance,
stability and what other commands found; `words` says it; `rendering` puts template, style, scripts and data into one
file.
"""

from __future__ import annotations

from svdtrace.report.answers import read_results
from svdtrace.report.data import PASSES
from svdtrace.report.rendering import render

__all__ = ["PASSES", "read_results", "render"]
