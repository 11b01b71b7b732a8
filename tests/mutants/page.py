"""docs/mutants.md: its table, written and read."""

from __future__ import annotations

from collections.abc import Mapping

from mutants.breaking import Found
from mutants.listed import MUTANTS
from mutants.mutant import ROOT

PAGE = ROOT / "docs" / "mutants.md"
START, END = "<!-- mutants -->\n", "<!-- end -->"
SHOWN = 4
"""Laws named in a row; of more the number."""


def filled(page: str, found: Mapping[str, Found]) -> str:
    """The page with its table made anew."""
    before, _, rest = page.partition(START)
    rows = ["| mutant | laws of `verify` that fail | test that fails |\n", "| --- | --- | --- |\n"]
    for mutant in MUTANTS:
        each = found[mutant.what]
        rows.append(f"| {mutant.what} | {_laws(each, mutant.unseen)} | {_test(each.test)} |\n")
    seen = sum(each.by_verify for each in found.values())
    rows.append(
        f"\n{len(found)} mutants; {seen} of them fail a law, {sum(bool(each.test) for each in found.values())} "
    )
    rows.append("a test.\n")
    return before + START + "".join(rows) + rest[rest.index(END) :]


def table(page: str) -> dict[str, tuple[str, str]]:
    """Of each mutant the cells of laws and test."""
    lines = page.split(START)[1].split(END)[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines[2:] if line.startswith("|")]
    return {what: (laws, test) for what, laws, test in rows}


def _laws(found: Found, unseen: str) -> str:
    if found.stopped:
        return f"stops: {found.stopped}"
    named = ", ".join(f"`{law}`" for law in found.laws[:SHOWN])
    if len(found.laws) > SHOWN:
        named += f" and {len(found.laws) - SHOWN} more"
    if found.laws:
        return named
    raw = f"; of raw weights {', '.join(f'`{law}`' for law in found.raw)}" if found.raw else ""
    return f"none: {unseen}{raw}"


def _test(test: str) -> str:
    return f"`{test.partition('[')[0]}`" if test else "none"
