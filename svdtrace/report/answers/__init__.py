"""Results of other commands on a trace's page: what `characterise`, `intervene` and `circuit` wrote.

`folders` reads and checks them; one module each says what of them the page draws.
"""

from __future__ import annotations

from svdtrace.report.answers.folders import Result, read_results, same_prompts, tried_in

__all__ = ["Result", "read_results", "same_prompts", "tried_in"]
