"""For the site: what GitHub's Markdown allows and the site's does not, and links that lead out of docs/."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)\s]+)\)")
PAGES = {"svdtrace/examples/tutorial.ipynb": "tutorial.md"}
"""The project's own files that have a page here."""
BEGINS = re.compile(r"^(\* |- |\d+\. |\|)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with an empty line before each list and table, and the project's own files by name, not by link,
    unless they have a page.
    """
    lines: list[str] = []
    fenced = False
    for line in markdown.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
        if not fenced and BEGINS.match(line) and lines and lines[-1] and not _goes_on(lines[-1], line):
            lines.append("")
        lines.append(line)
    return OUTSIDE.sub(_named, "\n".join(lines))


def _goes_on(before: str, line: str) -> bool:
    """Whether a list or table began earlier: an item may be continued by indented lines."""
    return bool(BEGINS.match(before)) or (before.startswith(" ") and not line.startswith("|"))


def _named(link: re.Match[str]) -> str:
    if link[2] in PAGES:
        return f"[{link[1]}]({PAGES[link[2]]})"
    return f"`{link[2]}`" if link[1].strip("`") == link[2] else f"{link[1]} (`{link[2]}`)"
